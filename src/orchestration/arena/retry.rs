//! The retry loop of an activity, as a state machine over slots: attempts, waits between them, and two timeouts.

use std::sync::Arc;
use std::time::Duration;

use crate::boundary::time_limit::{PassedLimit, TimeLimit};
use crate::orchestration::arena::Arena;
use crate::orchestration::arena::slot::{Failure, Outcome, Retry, RetryPhase};
use crate::orchestration::operation::Node;
use crate::orchestration::retry_policy::RetryPolicy;
use crate::orchestration::timeline::Moment;
use engine_adapter::{Action, AttemptHeader};

impl Retry {
    /// Starts the timer of the total timeout, then the first attempt.
    pub(crate) fn start(arena: &mut Arena, node: &Arc<Node>, policy: &RetryPolicy) -> Self {
        let total = policy.total_timeout.map(|timeout| arena.start_timer(node, timeout));
        let first_action = arena.actions();
        let phase = Self::attempt(arena, node, policy, None);
        Self { policy: policy.clone(), attempt: 1, first_action, total, phase }
    }

    fn attempt(arena: &mut Arena, node: &Arc<Node>, policy: &RetryPolicy, first_action: Option<usize>) -> RetryPhase {
        let (header, timer) = arena.header_of_attempt(policy, first_action);
        let activity = arena.start_attempt(node, header);
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
        self.phase = Self::attempt(arena, node, &self.policy, Some(self.first_action));
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
    /// The header that history records with the next attempt, and the timeout of its timer, if it has one.
    ///
    /// A replay repeats the recorded header, so a new version of the code may have other limits. Earlier versions recorded
    /// no header with a retry that has no limits, and a timer beside each attempt that has one.
    fn header_of_attempt(
        &self,
        policy: &RetryPolicy,
        first_action: Option<usize>,
    ) -> (Option<AttemptHeader>, Option<Duration>) {
        let Some(recorded) = self.timeline.scheduled(self.actions) else {
            let limits = policy.limits(self.timeline.now_ms());
            // A retry follows the end of the first attempt, which an earlier turn has recorded.
            let first_attempt = first_action.and_then(|action| self.timeline.event_id(action));
            let header = AttemptHeader { first_attempt, ..limits };
            return (Some(header).filter(|header| *header != AttemptHeader::default()), None);
        };
        let has_timer = recorded.header.is_none()
            && self
                .timeline
                .scheduled(self.actions + 1)
                .is_some_and(|next| next.fingerprint == Action::Timer.fingerprint());
        (recorded.header, policy.attempt_timeout.filter(|_| has_timer))
    }
}
