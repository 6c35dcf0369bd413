//! Ends that are mistakes: a task that the code returned, and a continue-as-new that it never waited for.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::boundary::codec;
use crate::boundary::errors::NotAllowedInOrchestration;
use crate::boundary::limits::type_name;
use crate::orchestration::closing::close_unbegun;
use crate::orchestration::driver::Driver;
use crate::orchestration::execution::Execution;
use crate::orchestration::operation::{Node, Operation};
use crate::orchestration::task::{Task, is_branch};

/// How deep a result is searched for the tasks that make it unfit to be recorded.
const SEARCH_DEPTH: usize = 4;

/// How many waits the error for generators names that wait for each other.
const MOST_WAITS_NAMED: usize = 5;

impl Driver {
    /// The recorded form of a result. A task in it is one that the code has not waited for.
    pub(super) fn encode_result(&self, value: &Bound<'_, PyAny>) -> PyResult<String> {
        if value.is_instance_of::<Task>() {
            return Err(self.returned_task(value));
        }
        codec::encode(value).map_err(|error| match find_unawaited(value, SEARCH_DEPTH) {
            Some(found) => self.returned_task(&found),
            None => error,
        })
    }

    /// The error for a task, generator or coroutine that was returned instead of its result.
    fn returned_task(&self, returned: &Bound<'_, PyAny>) -> PyErr {
        let py = returned.py();
        let name = &self.definition.name;
        let what = if let Ok(task) = returned.cast::<Task>() {
            let node = &task.get().node;
            node.set_replaced();
            format!("a task, {}{}", node.operation.describe(), place_of(py, node))
        } else {
            // The error says what Python would warn of.
            close_unbegun(returned);
            format!("a {}", type_name(returned))
        };
        let (missing, cure) =
            if self.is_coroutine(py) { ("await", "return await ...") } else { ("yield", "return (yield ...)") };
        PyTypeError::new_err(format!(
            "'{missing}' is missing in orchestration '{name}', which returned {what}, without waiting for it: write '{cure}'"
        ))
    }

    /// The failure of an orchestration that has built a continue-as-new and ended without it.
    pub(super) fn forgotten_continuation(&self, py: Python<'_>) -> Option<String> {
        let forgotten = self.execution.forgotten();
        let node = forgotten.iter().find(|node| matches!(node.operation, Operation::ContinueAsNew { .. }))?;
        node.set_replaced();
        let cure = if self.is_coroutine(py) { "await" } else { "yield" };
        let error = NotAllowedInOrchestration::new_err(format!(
            "orchestration '{}' called continue_as_new{} and ended without waiting for it: write '{cure}' before the call",
            self.definition.name,
            place_of(py, node),
        ));
        log_failure(py, &self.execution, &error);
        Some(codec::encode_failure(py, &error))
    }

    /// The error for generators that wait for each other.
    pub(super) fn stuck_branches(&self, py: Python<'_>, awaited: &[Arc<Node>]) -> PyErr {
        let waits = awaited.iter().take(MOST_WAITS_NAMED);
        let waits: Vec<String> =
            waits.map(|node| format!("{}{}", node.operation.describe(), place_of(py, node))).collect();
        NotAllowedInOrchestration::new_err(format!(
            "orchestration '{}' waits for nothing durable, and so would wait for ever: its branches wait for {}. Wait for \
             an activity, a timer, an event or a queue, or for a branch that does",
            self.definition.name,
            waits.join("; ")
        ))
    }

    pub(super) fn is_coroutine(&self, py: Python<'_>) -> bool {
        self.execution.event_loop(py).is_some()
    }
}

/// The line that described a task, by the name of its file alone: paths of a machine are not recorded.
fn place_of(py: Python<'_>, node: &Node) -> String {
    let Some(origin) = &node.origin else { return String::new() };
    let (file, line) = origin.place(py);
    let file = file.rsplit(['/', '\\']).next().unwrap_or_default();
    format!(" in line {line} of {file}")
}

/// The first task, generator or coroutine within a value.
fn find_unawaited<'py>(value: &Bound<'py, PyAny>, depth: usize) -> Option<Bound<'py, PyAny>> {
    if value.is_instance_of::<Task>() || is_branch(value) {
        return Some(value.clone());
    }
    let depth = depth.checked_sub(1)?;
    let items = match value.cast::<PyDict>() {
        Ok(dict) => dict.values().into_any(),
        Err(_) if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() => value.clone(),
        Err(_) => return None,
    };
    items.try_iter().ok()?.flatten().find_map(|item| find_unawaited(&item, depth))
}

/// The traceback goes to the log, never into history.
pub(super) fn log_failure(py: Python<'_>, execution: &Execution, error: &PyErr) {
    if execution.is_replaying() {
        return;
    }
    let message = format!("orchestration of instance '{}' failed", execution.instance);
    crate::logging::log_exception(
        py,
        "duroxide.orchestration",
        &message,
        error,
        &[
            ("instance_id", &execution.instance),
            ("orchestration_name", &execution.orchestration_name),
            ("orchestration_version", &execution.orchestration_version),
        ],
    );
}
