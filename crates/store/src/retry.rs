//! How long a failed operation is repeated, by the kind of its failure.

use std::time::{Duration, Instant};

use crate::backoff::LONGEST_PAUSE;
use crate::failure::{Failure, FailureKind};

/// How long an operation is repeated.
#[derive(Debug, Clone, Copy)]
pub enum RetryLimit {
    /// A caller waits for the answer.
    Caller,
    /// As [`RetryLimit::Caller`], but only after a refusal: a second delivery would be seen.
    CallerOnce,
    /// A lease is held: giving up would make the engine fail the orchestration. The end comes with the answer that the
    /// lock is lost.
    Lease,
    /// As [`RetryLimit::Lease`], but a refusal that an operator has to remove is the answer: the work is given back, and its
    /// slot is free for other work.
    Slot,
}

const CALLER_WAITS: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The state of one operation that is being repeated.
pub struct RetryState {
    limit: RetryLimit,
    began: Instant,
    pause: Duration,
    /// Whether an earlier attempt may have been applied although it failed.
    pub ambiguous: bool,
}

impl RetryState {
    pub fn new(limit: RetryLimit) -> Self {
        Self { limit, began: Instant::now(), pause: FIRST_PAUSE, ambiguous: false }
    }

    /// How long to wait before the next attempt; `None` when `failure` is the answer.
    pub fn pause_after(&mut self, failure: &Failure) -> Option<Duration> {
        let waits_for_operator = failure.kind == FailureKind::Obstructed && matches!(self.limit, RetryLimit::Lease);
        if !failure.is_transient() && !waits_for_operator {
            return None;
        }
        let may_have_been_applied = failure.kind == FailureKind::InDoubt;
        let repeats = match self.limit {
            RetryLimit::Lease | RetryLimit::Slot => true,
            RetryLimit::Caller => self.began.elapsed() < CALLER_WAITS,
            RetryLimit::CallerOnce => !may_have_been_applied && self.began.elapsed() < CALLER_WAITS,
        };
        if !repeats {
            return None;
        }
        self.ambiguous |= may_have_been_applied;
        let pause = self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

/// Runs one operation of a store, and repeats it after failures that pass. `$call` is evaluated again for each attempt.
#[macro_export]
macro_rules! retrying {
    ($availability:expr, $operation:expr, $retry:expr, $call:expr) => {{
        let availability = &*$availability;
        let retry: &mut $crate::retry::RetryState = $retry;
        loop {
            let outcome = match availability.check_open($operation) {
                Err(error) => Err(error),
                Ok(()) => $call.await,
            };
            match outcome {
                Ok(value) => {
                    availability.outage_ended();
                    break Ok(value);
                }
                Err(error) => match retry.pause_after(&error) {
                    Some(pause) => {
                        if pause >= $crate::retry::OUTAGE_PAUSE {
                            availability.outage_began(&error);
                        }
                        tokio::time::sleep(pause).await;
                    }
                    None => break Err(error),
                },
            }
        }
    }};
}

/// A pause this long means an outage. Shorter ones come from transactions that block each other.
pub const OUTAGE_PAUSE: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn repeats(limit: RetryLimit, kind: FailureKind) -> bool {
        RetryState::new(limit).pause_after(&Failure::new(kind, "read", "")).is_some()
    }

    #[test]
    fn refusal_is_repeated_by_everyone_and_what_is_in_doubt_only_where_that_does_no_harm() {
        use RetryLimit::{Caller, CallerOnce, Lease};

        assert_eq!([Caller, CallerOnce, Lease].map(|limit| repeats(limit, FailureKind::NotApplied)), [true; 3]);
        assert_eq!([Caller, CallerOnce, Lease].map(|limit| repeats(limit, FailureKind::InDoubt)), [true, false, true]);
    }

    #[test]
    fn nothing_else_is_repeated() {
        use FailureKind::{Closed, HasParent, LockLost, NotFound, Refused, StillRunning, Unreadable, Unusable};

        for kind in [Closed, LockLost, NotFound, StillRunning, HasParent, Unreadable, Unusable, Refused] {
            assert!(!repeats(RetryLimit::Lease, kind), "{kind:?}");
        }
    }

    #[test]
    fn only_a_held_result_waits_for_an_operator() {
        use RetryLimit::{Caller, CallerOnce, Lease, Slot};

        let limits = [Caller, CallerOnce, Lease, Slot];
        assert_eq!(limits.map(|limit| repeats(limit, FailureKind::Obstructed)), [false, false, true, false]);
    }

    #[test]
    fn only_an_attempt_in_doubt_makes_the_outcome_ambiguous() {
        let mut retry = RetryState::new(RetryLimit::Lease);

        retry.pause_after(&Failure::not_applied("ack_work_item", ""));
        assert!(!retry.ambiguous);

        retry.pause_after(&Failure::in_doubt("ack_work_item", ""));
        assert!(retry.ambiguous);
    }
}
