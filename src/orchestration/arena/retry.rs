//! The retry loop of an activity, as a state machine over slots: attempts, waits between them, and two timeouts.

use std::sync::Arc;
use std::time::Duration;

use crate::boundary::time_limit::{PassedLimit, TimeLimit};
use crate::orchestration::arena::Arena;
use crate::orchestration::arena::slot::{Failure, Outcome, Retry, RetryPhase, State};
use crate::orchestration::operation::{ActivityCall, Node, Operation};
use crate::orchestration::retry_policy::RetryPolicy;
use crate::orchestration::timeline::Moment;
use engine_adapter::{Action, AttemptBounds};

impl Retry {
    /// Starts the timer of the total timeout, then the first attempt.
    pub(crate) fn start(arena: &mut Arena, node: &Arc<Node>, policy: &RetryPolicy) -> Self {
        let total = policy.total_timeout.map(|timeout| arena.start_timer(node, timeout));
        let phase = Self::attempt(arena, node, policy);
        Self { policy: policy.clone(), attempt: 1, total, phase }
    }

    fn attempt(arena: &mut Arena, node: &Arc<Node>, policy: &RetryPolicy) -> RetryPhase {
        let waits_for_end = matches!(&node.operation, Operation::Activity(call) if call.waits_for_end);
        let (bounds, timer) = arena.bounds_of_attempt(policy, waits_for_end);
        let activity = arena.start_attempt(node, bounds);
        let timeout = timer.map(|timeout| arena.start_timer(node, timeout));
        RetryPhase::Trying { activity, timeout }
    }

    /// Continues as far as the history allows. Returns the outcome when it has one.
    pub(crate) fn advance(&mut self, arena: &mut Arena, node: &Arc<Node>) -> Option<(Outcome, Moment)> {
        loop {
            match self.phase {
                RetryPhase::Trying { activity, timeout } => {
                    if arena.settle(activity) {
                        let (outcome, moment) = arena.outcome(activity)?;
                        let Outcome::Failed(Failure::Activity { text, activity_id, .. }) = outcome else {
                            self.stop(arena);
                            return Some((outcome, moment));
                        };
                        arena.drop_all(timeout);
                        let passed = PassedLimit::of_failure(&text);
                        let may_retry = passed.is_some() || self.policy.retries(&text);
                        if self.attempt >= self.policy.max_attempts || !may_retry {
                            let attempts = self.attempt;
                            let outcome = if let Some(PassedLimit { limit, timeout_ms }) = passed {
                                self.timed_out(arena, Duration::from_millis(timeout_ms), limit)
                            } else {
                                self.stop(arena);
                                Outcome::Failed(Failure::Activity { text, activity_id, attempts })
                            };
                            return Some((outcome, moment));
                        }
                        self.wait(arena, node);
                    } else if let Some(expired) = self.expired_total(arena) {
                        return Some(expired);
                    } else if let Some(timer) = timeout
                        && arena.settle(timer)
                    {
                        arena.drop_all(Some(activity));
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
        self.phase = Self::attempt(arena, node, &self.policy);
    }

    /// Drops what is still under way, in the order in which it was started.
    pub(crate) fn stop(&mut self, arena: &mut Arena) {
        arena.drop_all(self.total.take());
        match self.phase {
            RetryPhase::Trying { activity, timeout } => {
                arena.drop_all(Some(activity));
                arena.drop_all(timeout);
            }
            RetryPhase::Waiting { timer } => arena.drop_all(Some(timer)),
        }
    }
}

impl Arena {
    /// The limits that history records with the next attempt, and the timeout of its timer, if it has one.
    ///
    /// A replay repeats the recorded limits, so a new version of the code may have other ones. Earlier versions recorded
    /// a timer beside each attempt instead.
    fn bounds_of_attempt(
        &self,
        policy: &RetryPolicy,
        waits_for_end: bool,
    ) -> (Option<AttemptBounds>, Option<Duration>) {
        let Some(recorded) = self.timeline.scheduled(self.actions) else {
            let bounds = policy.bounds(self.timeline.now_ms());
            let end_key = waits_for_end.then(|| self.next_end_key());
            let bounds =
                if waits_for_end { Some(AttemptBounds { end_key, ..bounds.unwrap_or_default() }) } else { bounds };
            return (bounds, None);
        };
        let has_timer = recorded.bounds.is_none()
            && self
                .timeline
                .scheduled(self.actions + 1)
                .is_some_and(|next| next.fingerprint == Action::Timer.fingerprint());
        (recorded.bounds, policy.attempt_timeout.filter(|_| has_timer))
    }

    /// The same for an activity without retries.
    pub(super) fn bounds_of_call(&self, call: &ActivityCall) -> Option<AttemptBounds> {
        match self.timeline.scheduled(self.actions) {
            Some(recorded) => recorded.bounds.filter(|bounds| bounds.end_key.is_some()),
            None if call.waits_for_end => {
                Some(AttemptBounds { end_key: Some(self.next_end_key()), ..AttemptBounds::default() })
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
                RetryPhase::Trying { activity, .. } => {
                    retry.policy.max_attempts = retry.attempt;
                    activity
                }
                RetryPhase::Waiting { .. } => return None,
            },
            _ => slot,
        };
        self.end_keys.get(&activity).copied()
    }
}
