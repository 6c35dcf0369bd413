//! The retry loop of an activity or a sub-orchestration, as a state machine over slots: attempts, waits between them, and two timeouts.

use std::sync::Arc;
use std::time::Duration;

use crate::boundary::time_limit::{PassedLimit, TimeLimit};
use crate::orchestration::arena::Arena;
use crate::orchestration::arena::slot::{Failure, Outcome, Retry, RetryPhase, State};
use crate::orchestration::operation::{ActivityCall, Node, Operation};
use crate::orchestration::retry_policy::RetryPolicy;
use crate::orchestration::timeline::Moment;
use engine_adapter::{Action, AttemptHeader};

impl Retry {
    /// Starts the timer of the total timeout, then the first attempt.
    pub(crate) fn start(arena: &mut Arena, node: &Arc<Node>, policy: &RetryPolicy) -> Self {
        let total = policy.total_timeout.map(|timeout| arena.start_timer(node, timeout));
        let first_action = arena.actions();
        let phase = Self::attempt(arena, node, policy, 1, None);
        Self { policy: policy.clone(), attempt: 1, first_action, total, phase }
    }

    fn attempt(
        arena: &mut Arena,
        node: &Arc<Node>,
        policy: &RetryPolicy,
        attempt: u32,
        first_action: Option<usize>,
    ) -> RetryPhase {
        let (header, timer) = match &node.operation {
            Operation::Activity(call) => arena.header_of_attempt(policy, first_action, call.waits_for_end),
            // The worker of a sub-orchestration keeps no limits, so a timer stands beside the attempt.
            _ => (None, policy.attempt_timeout),
        };
        let step = arena.start_attempt(node, attempt, header);
        let timeout = timer.map(|timeout| arena.start_timer(node, timeout));
        RetryPhase::Trying { step, timeout }
    }

    /// Continues as far as the history allows. Returns the outcome when it has one.
    pub(crate) fn advance(&mut self, arena: &mut Arena, node: &Arc<Node>) -> Option<(Outcome, Moment)> {
        loop {
            match self.phase {
                RetryPhase::Trying { step, timeout } => {
                    if arena.settle(step) {
                        let (outcome, moment) = arena.outcome(step)?;
                        let failed = match &outcome {
                            Outcome::Failed(failure) => failure.text().map(|text| (failure, text)),
                            _ => None,
                        };
                        let Some((failure, text)) = failed else {
                            self.stop(arena);
                            return Some((outcome, moment));
                        };
                        arena.drop_all(timeout);
                        let passed = failure.passed_limit();
                        let may_retry = passed.is_some() || (!failure.is_cancellation() && self.policy.retries(text));
                        let is_last = self.attempt >= self.policy.max_attempts || !may_retry;
                        let next_try = (!is_last).then(|| self.policy.backoff.delay(self.attempt));
                        arena.report_failed_attempt(node, self.attempt, text, moment, next_try);
                        if is_last {
                            let outcome = if let Some(PassedLimit { limit, timeout_ms }) = passed {
                                self.timed_out(arena, Duration::from_millis(timeout_ms), limit)
                            } else {
                                self.stop(arena);
                                Outcome::Failed(failure.clone().after(self.attempt))
                            };
                            return Some((outcome, moment));
                        }
                        self.wait(arena, node);
                    } else if let Some(expired) = self.expired_total(arena) {
                        return Some(expired);
                    } else if let Some(timer) = timeout
                        && arena.settle(timer)
                    {
                        arena.drop_all(Some(step));
                        if self.attempt >= self.policy.max_attempts {
                            let (_, moment) = arena.outcome(timer)?;
                            let timeout = self.policy.attempt_timeout.unwrap_or_default();
                            return Some((self.timed_out(arena, timeout, TimeLimit::Attempt), moment));
                        }
                        self.wait(arena, node);
                    } else {
                        return None;
                    }
                }
                RetryPhase::Waiting { timer } => {
                    if let Some(expired) = self.expired_total(arena) {
                        return Some(expired);
                    }
                    if !arena.settle(timer) {
                        return None;
                    }
                    self.next(arena, node);
                }
            }
        }
    }

    fn expired_total(&mut self, arena: &mut Arena) -> Option<(Outcome, Moment)> {
        let total = self.total?;
        if !arena.settle(total) {
            return None;
        }
        let (_, moment) = arena.outcome(total)?;
        let timeout = self.policy.total_timeout.unwrap_or_default();
        Some((self.timed_out(arena, timeout, TimeLimit::Total), moment))
    }

    fn timed_out(&mut self, arena: &mut Arena, timeout: Duration, limit: TimeLimit) -> Outcome {
        let attempts = self.attempt;
        self.stop(arena);
        Outcome::Failed(Failure::TimedOut { timeout, attempts, limit })
    }

    fn wait(&mut self, arena: &mut Arena, node: &Arc<Node>) {
        let delay = self.policy.backoff.delay(self.attempt);
        if delay.is_zero() {
            self.next(arena, node);
        } else {
            self.phase = RetryPhase::Waiting { timer: arena.start_timer(node, delay) };
        }
    }

    fn next(&mut self, arena: &mut Arena, node: &Arc<Node>) {
        self.attempt += 1;
        self.phase = Self::attempt(arena, node, &self.policy, self.attempt, Some(self.first_action));
    }

    /// Drops what is still under way, in the order in which it was started.
    pub(crate) fn stop(&mut self, arena: &mut Arena) {
        arena.drop_all(self.total.take());
        match self.phase {
            RetryPhase::Trying { step, timeout } => {
                arena.drop_all(Some(step));
                arena.drop_all(timeout);
            }
            RetryPhase::Waiting { timer } => arena.drop_all(Some(timer)),
        }
    }
}

impl Failure {
    /// The recorded failure of a step.
    fn text(&self) -> Option<&str> {
        match self {
            Self::Activity { text, .. } | Self::SubOrchestration { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether a sub-orchestration was cancelled, which is no reason to try it again. The engine words it so; a failure of
    /// code is recorded as JSON.
    fn is_cancellation(&self) -> bool {
        matches!(self, Self::SubOrchestration { text, .. } if text.starts_with("canceled: "))
    }

    /// The limit that the worker of an activity has kept.
    fn passed_limit(&self) -> Option<PassedLimit> {
        match self {
            Self::Activity { text, .. } => PassedLimit::of_failure(text),
            _ => None,
        }
    }

    /// The failure of the last of several attempts.
    fn after(mut self, number: u32) -> Self {
        if let Self::Activity { attempts, .. } | Self::SubOrchestration { attempts, .. } = &mut self {
            *attempts = number;
        }
        self
    }
}

impl Arena {
    /// The header that history records with the next attempt, and the timeout of its timer, if it has one.
    ///
    /// A replay repeats the recorded header, so a new version of the code may have other limits. Earlier versions recorded
    /// no header with a retry that has no limits, and a timer beside each attempt that has one.
    fn header_of_attempt(
        &self,
        policy: &RetryPolicy,
        first_action: Option<usize>,
        waits_for_end: bool,
    ) -> (Option<AttemptHeader>, Option<Duration>) {
        let Some(recorded) = self.timeline.scheduled(self.actions) else {
            let limits = policy.limits(self.timeline.now_ms());
            // A retry follows the end of the first attempt, which an earlier turn has recorded.
            let first_attempt = first_action.and_then(|action| self.timeline.event_id(action));
            let end_key = waits_for_end.then(|| self.next_end_key());
            let header = AttemptHeader { first_attempt, end_key, ..limits };
            return (Some(header).filter(|header| *header != AttemptHeader::default()), None);
        };
        let has_timer = recorded.header.is_none()
            && self
                .timeline
                .scheduled(self.actions + 1)
                .is_some_and(|next| next.fingerprint == Action::Timer.fingerprint());
        (recorded.header, policy.attempt_timeout.filter(|_| has_timer))
    }

    /// The same for an activity without retries.
    pub(super) fn header_of_call(&self, call: &ActivityCall) -> Option<AttemptHeader> {
        match self.timeline.scheduled(self.actions) {
            Some(recorded) => recorded.header.filter(|header| header.end_key.is_some()),
            None if call.waits_for_end => {
                Some(AttemptHeader { end_key: Some(self.next_end_key()), ..AttemptHeader::default() })
            }
            None => None,
        }
    }

    /// The number of the next slot, which a replay repeats.
    fn next_end_key(&self) -> u64 {
        u64::try_from(self.slots.len()).unwrap_or(u64::MAX)
    }

    /// The key by which the activity of a slot can be asked to end, if it is under way. No other attempt follows.
    pub(crate) fn end_of_attempts(&mut self, slot: usize) -> Option<u64> {
        if self.settle(slot) {
            return None;
        }
        let activity = match &mut self.slots[slot].state {
            State::Retry(retry) => match retry.phase {
                RetryPhase::Trying { step, .. } => {
                    retry.policy.max_attempts = retry.attempt;
                    step
                }
                RetryPhase::Waiting { .. } => return None,
            },
            _ => slot,
        };
        self.end_keys.get(&activity).copied()
    }
}
