//! How the outcome of a slot becomes a Python object or an exception.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::boundary::codec::Decode;
use crate::boundary::errors::DuroxideError;
use crate::boundary::python;
use crate::orchestration::arena::{Failure, Outcome};
use crate::orchestration::execution::Execution;
use crate::orchestration::operation::{Node, Operation, id_of_attempt};
use crate::orchestration::task::Task;

/// The Python object of an ended slot, or the exception of its failure.
pub(crate) fn value_of<'py>(py: Python<'py>, execution: &Arc<Execution>, slot: usize) -> PyResult<Bound<'py, PyAny>> {
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
            match value_in_combinator(py, execution, slot) {
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
        Outcome::Waited { first } => done_and_pending(py, execution, &node, first),
        Outcome::Children => children_of(py, execution, &node, slot),
        Outcome::Failed(failure) => Err(exception(py, &node, &failure)?),
    }
}

/// The Python object of a slot in `all` or `race`. A message that its reader takes as text is a value there, as the data of
/// an event is. The earlier SDK defines it so; `gather` gives what each task gives alone.
fn value_in_combinator<'py>(py: Python<'py>, execution: &Arc<Execution>, slot: usize) -> PyResult<Bound<'py, PyAny>> {
    let message = {
        let arena = execution.arena();
        let node = arena.node(slot);
        let is_text = matches!(node.operation, Operation::Queue(_)) && matches!(node.decode, Decode::Raw);
        match arena.outcome(slot) {
            Some((Outcome::Text(text), _)) if is_text => Some(text),
            _ => None,
        }
    };
    match message {
        Some(text) => Decode::Json.apply(py, &text),
        None => value_of(py, execution, slot),
    }
}

fn children_of<'py>(
    py: Python<'py>,
    execution: &Arc<Execution>,
    node: &Node,
    slot: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let children = execution.arena().children(slot);
    let values = PyList::empty(py);
    if matches!(node.operation, Operation::Gather(_)) {
        for child in children {
            values.append(value_of(py, execution, child)?)?;
        }
        return Ok(values.into_any());
    }
    for child in children {
        let outcome = match value_in_combinator(py, execution, child) {
            Ok(value) => python::OUTCOME_OK.call(py, (value,))?,
            Err(error) => python::OUTCOME_ERR.call(py, (error.into_value(py),))?,
        };
        values.append(outcome)?;
    }
    Ok(values.into_any())
}

/// The tasks of a wait that have ended, and the others. Of a wait for the first one, that is one task, so that every replay
/// finds the same, also where several ended in the same turn.
fn done_and_pending<'py>(
    py: Python<'py>,
    execution: &Arc<Execution>,
    node: &Node,
    first: Option<usize>,
) -> PyResult<Bound<'py, PyAny>> {
    let (done, pending) = (PyList::empty(py), PyList::empty(py));
    for child in node.operation.children() {
        let has_ended = first.is_none_or(|first| child.slot() == Some(first));
        let task = Bound::new(py, Task::new(Arc::clone(execution), Arc::clone(child)))?;
        if has_ended { done.append(task)? } else { pending.append(task)? }
    }
    Ok(PyTuple::new(py, [done, pending])?.into_any())
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
        (Failure::SubOrchestration { text, attempts }, Operation::SubOrchestration { name, instance_id, .. }) => {
            let instance_id = instance_id.as_deref().map(|instance_id| id_of_attempt(instance_id, *attempts));
            python::SUB_ORCHESTRATION_FAILED.call(py, (text.as_ref(), name, instance_id, *attempts))?
        }
        (Failure::SubOrchestration { text, attempts }, _) => {
            python::SUB_ORCHESTRATION_FAILED.call(py, (text.as_ref(), "", None::<&str>, *attempts))?
        }
        (Failure::TimedOut { timeout, attempts, limit }, Operation::SubOrchestration { name, instance_id, .. }) => {
            let instance_id = instance_id.as_deref().map(|instance_id| id_of_attempt(instance_id, *attempts));
            let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            python::SUB_ORCHESTRATION_TIMED_OUT.call(py, (name, instance_id, timeout_ms, *attempts, limit.name()))?
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
