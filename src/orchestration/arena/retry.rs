//! The retry loop of an activity, as a state machine over slots: attempts, waits between them, and two timeouts.

use std::sync::Arc;
use std::time::Duration;

use crate::orchestration::arena::Arena;
use crate::orchestration::arena::slot::{Failure, Outcome, Retry, RetryPhase};
use crate::orchestration::operation::Node;
use crate::orchestration::retry_policy::RetryPolicy;
use crate::orchestration::timeline::Moment;

impl Retry {
    /// Starts the timer of the total timeout, then the first attempt.
    pub(crate) fn start(arena: &mut Arena, node: &Arc<Node>, policy: &RetryPolicy) -> Self {
        let total = policy.total_timeout.map(|timeout| arena.start_timer(node, timeout));
        let phase = Self::attempt(arena, node, policy);
        Self { policy: policy.clone(), attempt: 1, total, phase }
    }

    fn attempt(arena: &mut Arena, node: &Arc<Node>, policy: &RetryPolicy) -> RetryPhase {
        let activity = arena.start_activity(node);
        let timeout = policy.attempt_timeout.map(|timeout| arena.start_timer(node, timeout));
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
                        if self.attempt >= self.policy.max_attempts || !self.policy.retries(&text) {
                            let attempts = self.attempt;
                            self.stop(arena);
                            return Some((Outcome::Failed(Failure::Activity { text, activity_id, attempts }), moment));
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
                            return Some((self.timed_out(arena, timeout, false), moment));
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
        Some((self.timed_out(arena, timeout, true), moment))
    }

    fn timed_out(&mut self, arena: &mut Arena, timeout: Duration, total: bool) -> Outcome {
        let attempts = self.attempt;
        self.stop(arena);
        Outcome::Failed(Failure::TimedOut { timeout, attempts, total })
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
