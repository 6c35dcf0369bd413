//! How an activity is tried again, as Python's `RetryPolicy` has checked it.

use std::time::Duration;

use engine_adapter::{AttemptHeader, StartBound};
use pyo3::prelude::*;
use serde::Deserialize;

use crate::boundary::options::choices;
use crate::boundary::python::NATIVE_RETRY_POLICY;

/// How the wait grows from attempt to attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Backoff {
    None,
    Fixed { delay: Duration },
    Linear { base: Duration, maximum: Duration },
    Exponential { base: Duration, multiplier: f64, maximum: Duration },
}

impl Backoff {
    /// The name of the kind, as Python has it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Fixed { .. } => "fixed",
            Self::Linear { .. } => "linear",
            Self::Exponential { .. } => "exponential",
        }
    }

    /// The wait after the failure of attempt number `attempt`, counted from 1.
    pub(crate) fn delay(&self, attempt: u32) -> Duration {
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

choices! {
    /// The kinds of `Backoff`, as Python names them.
    enum BackoffKind("backoff") {
        None = "none",
        Fixed = "fixed",
        Linear = "linear",
        Exponential = "exponential",
    }
}

/// How often an activity is tried, how long, and what is not tried again.
#[derive(Clone, Debug, PartialEq)]
#[pyclass(frozen, eq, from_py_object, name = "EncodedRetryPolicy", module = "duroxide._native")]
pub(crate) struct RetryPolicy {
    pub(crate) max_attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) start_timeout: Option<Duration>,
    pub(crate) total_timeout: Option<Duration>,
    /// The names of the exceptions that end the attempts; a failure also has the names of its bases.
    #[pyo3(get)]
    pub(crate) non_retryable: Vec<String>,
}

#[pymethods]
impl RetryPolicy {
    #[expect(clippy::too_many_arguments, reason = "one argument a field, each by its name")]
    #[new]
    #[pyo3(signature = (
        *, max_attempts, backoff, base_ms, multiplier, max_ms, attempt_timeout_ms, start_timeout_ms, total_timeout_ms, non_retryable
    ))]
    fn new(
        max_attempts: u32,
        backoff: &str,
        base_ms: u64,
        multiplier: f64,
        max_ms: u64,
        attempt_timeout_ms: Option<u64>,
        start_timeout_ms: Option<u64>,
        total_timeout_ms: Option<u64>,
        non_retryable: Vec<String>,
    ) -> PyResult<Self> {
        let (base, maximum) = (Duration::from_millis(base_ms), Duration::from_millis(max_ms));
        Ok(Self {
            max_attempts,
            backoff: match backoff.parse()? {
                BackoffKind::None => Backoff::None,
                BackoffKind::Fixed => Backoff::Fixed { delay: base },
                BackoffKind::Linear => Backoff::Linear { base, maximum },
                BackoffKind::Exponential => Backoff::Exponential { base, multiplier, maximum },
            },
            attempt_timeout: attempt_timeout_ms.map(Duration::from_millis),
            start_timeout: start_timeout_ms.map(Duration::from_millis),
            total_timeout: total_timeout_ms.map(Duration::from_millis),
            non_retryable,
        })
    }

    fn __repr__(&self) -> String {
        format!("{self:?}")
    }
}

/// What a recorded failure says about another attempt. An exception group has the failures within it.
#[derive(Deserialize)]
struct RetryFields {
    #[serde(rename = "type")]
    error_type: Option<String>,
    retryable: Option<bool>,
    #[serde(default)]
    bases: Vec<String>,
    #[serde(default)]
    failures: Vec<Self>,
}

impl RetryPolicy {
    /// Reads a `RetryPolicy` of Python or the documented dictionary, which Python checks.
    pub(crate) fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        if value.is_none() {
            return Ok(None);
        }
        Ok(Some(NATIVE_RETRY_POLICY.call(value.py(), (value,))?.extract()?))
    }

    /// The limits of an attempt that is scheduled at `now_ms`.
    pub(crate) fn limits(&self, now_ms: u64) -> AttemptHeader {
        let milliseconds = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let start = self.start_timeout.map(milliseconds);
        AttemptHeader {
            timeout_ms: self.attempt_timeout.map(milliseconds),
            start: start.map(|timeout_ms| StartBound { latest_ms: now_ms.saturating_add(timeout_ms), timeout_ms }),
            ..AttemptHeader::default()
        }
    }

    /// Whether an activity is tried again after this recorded failure.
    pub(crate) fn retries(&self, failure: &str) -> bool {
        serde_json::from_str::<RetryFields>(failure).map_or(true, |recorded| self.allows_retry(&recorded))
    }

    fn allows_retry(&self, recorded: &RetryFields) -> bool {
        let mut names = recorded.error_type.iter().chain(&recorded.bases);
        recorded.retryable != Some(false)
            && !names.any(|name| self.non_retryable.contains(name))
            && recorded.failures.iter().all(|failure| self.allows_retry(failure))
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
