//! The retry loop of an activity, as a state machine over slots: attempts, waits between them, and two timeouts.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use serde::Deserialize;

use super::arena::{Arena, Failure, Outcome};
use super::operation::Node;
use super::timeline::Moment;

/// How the wait grows from attempt to attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Backoff {
    None,
    Fixed { delay: Duration },
    Linear { base: Duration, maximum: Duration },
    Exponential { base: Duration, multiplier: f64, maximum: Duration },
}

impl Backoff {
    /// The wait after the failure of attempt number `attempt`, counted from 1.
    fn delay(&self, attempt: u32) -> Duration {
        match *self {
            Self::None => Duration::ZERO,
            Self::Fixed { delay } => delay,
            Self::Linear { base, maximum } => base.saturating_mul(attempt).min(maximum),
            Self::Exponential { base, multiplier, maximum } => {
                let factor = multiplier.powi(i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX));
                Duration::try_from_secs_f64(base.as_secs_f64() * factor).unwrap_or(maximum).min(maximum)
            }
        }
    }
}

/// How often an activity is tried, how long, and what is not tried again.
#[derive(Clone, Debug)]
pub(crate) struct RetryPolicy {
    pub(crate) max_attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) total_timeout: Option<Duration>,
    pub(crate) non_retryable: Vec<String>,
}

type Parts = (u32, String, u64, f64, u64, Option<u64>, Option<u64>, Vec<String>);

impl RetryPolicy {
    /// Reads a `RetryPolicy` or the documented dictionary; Python checks it and gives its parts.
    pub(crate) fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        if value.is_none() {
            return Ok(None);
        }
        let parts = value.py().import("duroxide._declare.retry")?.getattr("retry_parts")?.call1((value,))?;
        let (max_attempts, kind, base_ms, multiplier, max_ms, attempt_ms, total_ms, non_retryable): Parts =
            parts.extract()?;
        let base = Duration::from_millis(base_ms);
        let maximum = Duration::from_millis(max_ms);
        let backoff = match kind.as_str() {
            "fixed" => Backoff::Fixed { delay: base },
            "linear" => Backoff::Linear { base, maximum },
            "exponential" => Backoff::Exponential { base, multiplier, maximum },
            _ => Backoff::None,
        };
        Ok(Some(Self {
            max_attempts,
            backoff,
            attempt_timeout: attempt_ms.map(Duration::from_millis),
            total_timeout: total_ms.map(Duration::from_millis),
            non_retryable,
        }))
    }

    fn retries(&self, failure: &str) -> bool {
        #[derive(Deserialize)]
        struct Recorded {
            #[serde(rename = "type")]
            error_type: Option<String>,
            retryable: Option<bool>,
        }
        match serde_json::from_str::<Recorded>(failure) {
            Ok(recorded) => {
                recorded.retryable != Some(false)
                    && !recorded.error_type.is_some_and(|name| self.non_retryable.contains(&name))
            }
            Err(_) => true,
        }
    }
}

enum Phase {
    Trying { activity: usize, timeout: Option<usize> },
    Waiting { timer: usize },
}

pub(crate) struct Retry {
    policy: RetryPolicy,
    attempt: u32,
    total: Option<usize>,
    phase: Phase,
}

impl Retry {
    /// Starts the timer of the total timeout, then the first attempt.
    pub(crate) fn start(arena: &mut Arena, node: &Arc<Node>, policy: &RetryPolicy) -> Self {
        let total = policy.total_timeout.map(|timeout| arena.start_timer(node, timeout));
        let phase = Self::attempt(arena, node, policy);
        Self { policy: policy.clone(), attempt: 1, total, phase }
    }

    fn attempt(arena: &mut Arena, node: &Arc<Node>, policy: &RetryPolicy) -> Phase {
        let activity = arena.start_activity(node);
        let timeout = policy.attempt_timeout.map(|timeout| arena.start_timer(node, timeout));
        Phase::Trying { activity, timeout }
    }

    /// Goes on as far as history allows; the outcome when there is one.
    pub(crate) fn advance(&mut self, arena: &mut Arena, node: &Arc<Node>) -> Option<(Outcome, Moment)> {
        loop {
            match self.phase {
                Phase::Trying { activity, timeout } => {
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
                Phase::Waiting { timer } => {
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
            self.phase = Phase::Waiting { timer: arena.start_timer(node, delay) };
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
            Phase::Trying { activity, timeout } => {
                arena.drop_all(Some(activity));
                arena.drop_all(timeout);
            }
            Phase::Waiting { timer } => arena.drop_all(Some(timer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exponential_wait_doubles_up_to_its_maximum() {
        let backoff =
            Backoff::Exponential { base: Duration::from_millis(100), multiplier: 2.0, maximum: Duration::from_secs(1) };
        let waits: Vec<u128> = (1..=6).map(|attempt| backoff.delay(attempt).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn a_huge_wait_is_cut_to_the_maximum_instead_of_overflowing() {
        let backoff =
            Backoff::Exponential { base: Duration::from_secs(1), multiplier: 10.0, maximum: Duration::from_secs(60) };
        assert_eq!(backoff.delay(u32::MAX), Duration::from_secs(60));
    }
}
