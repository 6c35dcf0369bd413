//! The arguments of the methods of the context.

use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDelta, PyInt};

use crate::boundary::codec;
use crate::boundary::errors::LimitExceeded;
use crate::boundary::limits::{MAX_DURATION_MS, type_name};
use crate::boundary::python::TIMEDELTA_TOTAL_SECONDS;

pub(crate) fn payload(py: Python<'_>, input: Option<&Bound<'_, PyAny>>) -> PyResult<String> {
    match input {
        Some(input) => codec::encode(input),
        None => codec::encode(&py.None().into_bound(py)),
    }
}

pub(crate) fn check_version(version: Option<&str>) -> PyResult<()> {
    let Some(text) = version else { return Ok(()) };
    semver::Version::parse(text)
        .map(drop)
        .map_err(|error| PyValueError::new_err(format!("the version '{text}' is not a semantic version: {error}")))
}

pub(crate) fn duration(delay: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let milliseconds = if let Ok(delta) = delay.cast::<PyDelta>() {
        let seconds: f64 = TIMEDELTA_TOTAL_SECONDS.call(delta, ())?.extract()?;
        // Milliseconds are all that the engine keeps, and a shorter wait than asked for would surprise.
        (seconds * 1000.0).ceil() as i64
    } else if delay.is_instance_of::<PyInt>() && !delay.is_instance_of::<PyBool>() {
        // Beyond 64 bits it is as far out of range as at their ends.
        delay.extract().unwrap_or(if delay.lt(0)? { i64::MIN } else { i64::MAX })
    } else {
        let kind = type_name(delay);
        return Err(PyTypeError::new_err(format!("a timer needs milliseconds as an int, or a timedelta, not {kind}")));
    };
    let milliseconds = u64::try_from(milliseconds)
        .map_err(|_| PyValueError::new_err(format!("a timer cannot wait for {delay}: the delay is negative")))?;
    if milliseconds > MAX_DURATION_MS {
        return Err(LimitExceeded::new_err(format!(
            "a timer cannot wait for {delay}: at most {MAX_DURATION_MS} ms, which is ten years"
        )));
    }
    Ok(Duration::from_millis(milliseconds))
}
