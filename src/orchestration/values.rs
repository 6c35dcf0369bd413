//! How the outcome of a slot becomes a Python object or an exception.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::boundary::errors::DuroxideError;
use crate::boundary::python;
use crate::orchestration::arena::{Failure, Outcome};
use crate::orchestration::execution::Execution;
use crate::orchestration::operation::{Node, Operation};

/// The Python object of an ended slot, or the exception of its failure.
pub(crate) fn value_of<'py>(py: Python<'py>, execution: &Execution, slot: usize) -> PyResult<Bound<'py, PyAny>> {
    let (node, outcome) = {
        let arena = execution.arena();
        (arena.node(slot), arena.outcome(slot))
    };
    let Some((outcome, _)) = outcome else {
        return Err(PyValueError::new_err(format!("{} has no outcome yet", node.operation.describe())));
    };
    match outcome {
        Outcome::Text(text) => node.decode.apply(py, &text),
        Outcome::Nothing => Ok(py.None().into_bound(py)),
        Outcome::Returned(value) => Ok(value.bind(py).clone()),
        Outcome::FailedBy(child) => value_of(py, execution, child),
        Outcome::Winner { index, slot } => {
            let winner = PyDict::new(py);
            match value_of(py, execution, slot) {
                Ok(value) => {
                    winner.set_item(python::WINNER_INDEX.text(py), index)?;
                    winner.set_item(python::WINNER_VALUE.text(py), value)?;
                    Ok(winner.into_any())
                }
                Err(error) => {
                    // A user's exception may refuse new attributes; the index is a courtesy.
                    python::WINNER_INDEX.set(error.value(py), index).ok();
                    Err(error)
                }
            }
        }
        Outcome::Children => children_of(py, execution, &node, slot),
        Outcome::Failed(failure) => Err(exception(py, &node, &failure)?),
    }
}

fn children_of<'py>(py: Python<'py>, execution: &Execution, node: &Node, slot: usize) -> PyResult<Bound<'py, PyAny>> {
    let children = execution.arena().children(slot);
    let values = PyList::empty(py);
    if matches!(node.operation, Operation::Gather(_)) {
        for child in children {
            values.append(value_of(py, execution, child)?)?;
        }
        return Ok(values.into_any());
    }
    for child in children {
        let outcome = match value_of(py, execution, child) {
            Ok(value) => python::OUTCOME_OK.call(py, (value,))?,
            Err(error) => python::OUTCOME_ERR.call(py, (error.into_value(py),))?,
        };
        values.append(outcome)?;
    }
    Ok(values.into_any())
}

fn exception(py: Python<'_>, node: &Node, failure: &Failure) -> PyResult<PyErr> {
    let error = match (failure, &node.operation) {
        (Failure::Activity { text, activity_id, attempts }, operation) => {
            let name = match operation {
                Operation::Activity(call) => call.name.clone(),
                other => other.describe(),
            };
            python::ACTIVITY_FAILED.call(py, (text.as_ref(), name, *activity_id, *attempts))?
        }
        (Failure::SubOrchestration { text }, Operation::SubOrchestration { name, instance_id, .. }) => {
            python::SUB_ORCHESTRATION_FAILED.call(py, (text.as_ref(), name, instance_id.as_deref()))?
        }
        (Failure::SubOrchestration { text }, _) => {
            python::SUB_ORCHESTRATION_FAILED.call(py, (text.as_ref(), "", None::<&str>))?
        }
        (Failure::TimedOut { timeout, attempts, limit }, operation) => {
            let name = match operation {
                Operation::Activity(call) => call.name.clone(),
                other => other.describe(),
            };
            let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            python::ACTIVITY_TIMED_OUT.call(py, (name, timeout_ms, *attempts, limit.name()))?
        }
        (Failure::Raised(error), _) => error.bind(py).clone(),
        (Failure::Cancelled { lost_race }, operation) => {
            let why = if *lost_race { "another task won the race" } else { "what waited for it has given it up" };
            let message = format!("{} was cancelled, since {why}", operation.describe());
            return Ok(DuroxideError::new_err(message));
        }
    };
    Ok(PyErr::from_value(error))
}
