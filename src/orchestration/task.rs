//! The task that Python code holds, and how the outcome of its slot becomes a Python object or an exception.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::boundary::codec::Decode;
use crate::boundary::limits::type_name;
use crate::boundary::python;
use crate::orchestration::awaited_task::AwaitedTask;
use crate::orchestration::coroutines::{Runner, Variables, is_coroutine, is_unbegun};
use crate::orchestration::execution::Execution;
use crate::orchestration::limits::check_tag;
use crate::orchestration::operation::{Node, Operation};
use crate::orchestration::task_fields;

/// A lazy description of a durable operation: `yield`, `yield from` or `await` it, or give it to a combinator.
#[pyclass(frozen, generic, mapping, name = "Task", module = "duroxide._native")]
pub(crate) struct Task {
    pub(crate) node: Arc<Node>,
    execution: Arc<Execution>,
    /// The progress of the coroutine that drives it.
    state: Mutex<AwaitProgress>,
}

impl Task {
    pub(crate) fn new(execution: Arc<Execution>, node: Arc<Node>) -> Self {
        Self { node, execution, state: Mutex::new(AwaitProgress::Unbegun) }
    }

    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let task_of = |child: &Arc<Node>| Py::new(py, Self::new(Arc::clone(&self.execution), Arc::clone(child)));
        task_fields::of(py, &self.node.operation, task_of)
    }
}

#[expect(clippy::doc_markdown, reason = "Python shows these descriptions, which have the form of its docstrings")]
#[pymethods]
impl Task {
    /// Leave the activity to workers with ``tag``, and return the same task.
    ///
    /// Args:
    ///     tag: The tag, at most 256 bytes. It takes the place of an earlier one.
    ///
    /// Raises:
    ///     LimitExceeded: The tag is empty or too long.
    ///     TypeError: The task is not an activity.
    ///     ValueError: The task has started.
    fn with_tag(slf: Py<Self>, tag: &str) -> PyResult<Py<Self>> {
        let Self { node, execution, .. } = slf.get();
        let Operation::Activity(call) = &node.operation else {
            return Err(PyTypeError::new_err(format!(
                "{} cannot be tagged: tags route activities to workers",
                node.operation.describe()
            )));
        };
        if node.slot().is_some() {
            return Err(PyValueError::new_err(format!(
                "{} was started already: set its tag before it is yielded",
                node.operation.describe()
            )));
        }
        execution.check()?;
        check_tag(tag)?;
        call.tag.set(tag);
        Ok(slf)
    }

    // In the earlier SDK a task was a dict, and programs read it so.

    fn __getitem__<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.fields(py)?.get_item(key)?.ok_or_else(|| PyKeyError::new_err(key.clone().unbind()))
    }

    fn __contains__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.fields(py)?.contains(key)
    }

    /// Return the field ``key`` of the task; ``default`` if the task does not have it.
    #[pyo3(signature = (key, default=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.fields(py)?.get_item(key)?.or(default))
    }

    /// Return the names of the task's fields.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        Ok(self.fields(py)?.keys())
    }

    fn __iter__(slf: Py<Self>) -> TaskSteps {
        TaskSteps { task: slf, state: Mutex::new(AwaitProgress::Unbegun) }
    }

    fn __await__(slf: Py<Self>) -> TaskSteps {
        TaskSteps { task: slf, state: Mutex::new(AwaitProgress::Unbegun) }
    }

    // A task is a coroutine: asyncio makes its own tasks of it, as in `asyncio.create_task(ship(order))`.

    /// Run one step of the task as a coroutine, and send it ``value``; asyncio calls this method.
    fn send<'py>(slf: &Bound<'py, Self>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        step(slf, &slf.get().state, value)
    }

    /// Raise ``error``, with ``value`` and ``traceback``, in the task as in a coroutine; asyncio calls this.
    #[pyo3(signature = (error, value=None, traceback=None))]
    fn throw<'py>(
        &self,
        error: Bound<'py, PyAny>,
        value: Option<Bound<'py, PyAny>>,
        traceback: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        drop(traceback);
        *self.state.lock() = AwaitProgress::Ended;
        Err(PyErr::from_value(value.filter(|value| !value.is_none()).unwrap_or(error)))
    }

    /// Close the task as a coroutine, and give it up.
    fn close(&self) {
        *self.state.lock() = AwaitProgress::Ended;
    }

    /// The place of the task among all that its orchestration has described: sets of tasks have the same order at every replay.
    fn __hash__(&self) -> usize {
        self.node.number
    }

    /// Tell whether the other task describes the same step. ``ctx.wait`` gives new objects for the tasks that it got.
    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| Arc::ptr_eq(&self.node, &other.get().node))
    }

    fn __repr__(&self) -> String {
        let started = if self.node.slot().is_some() { ", started" } else { "" };
        format!("<Task {}{started}>", self.node.operation.describe())
    }
}

/// The progress of the coroutine that awaits a task.
pub(crate) enum AwaitProgress {
    Unbegun,
    /// The driver sends the value.
    Yielded,
    /// The event loop has a future for the value.
    Waits(Py<PyAny>),
    Ended,
}

/// What `yield from task` and `await task` step through: the task or its future, once; then its value.
#[pyclass(frozen, module = "duroxide._native")]
pub(crate) struct TaskSteps {
    task: Py<Task>,
    state: Mutex<AwaitProgress>,
}

#[pymethods]
impl TaskSteps {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        step(self.task.bind(py), &self.state, py.None().into_bound(py))
    }

    fn send<'py>(&self, py: Python<'py>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        step(self.task.bind(py), &self.state, value)
    }
}

/// One step of awaiting `task`.
fn step<'py>(
    task: &Bound<'py, Task>,
    state: &Mutex<AwaitProgress>,
    value: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = task.py();
    let Task { node, execution, .. } = task.get();
    // The lock is free again before Python code runs.
    let before = mem::replace(&mut *state.lock(), AwaitProgress::Ended);
    match before {
        AwaitProgress::Unbegun => {
            let Some(event_loop) = execution.running_loop(py) else {
                if execution.is_beside_a_running_loop() {
                    return Err(not_of_this_execution(node));
                }
                *state.lock() = AwaitProgress::Yielded;
                return Ok(task.clone().into_any());
            };
            match execution.wait_in_loop(&event_loop, node)? {
                AwaitedTask::Value(value) => Err(PyStopIteration::new_err((value.unbind(),))),
                AwaitedTask::Future(future) => {
                    python::FUTURE_IS_AWAITED.set(&future, true)?;
                    *state.lock() = AwaitProgress::Waits(future.clone().unbind());
                    Ok(future)
                }
            }
        }
        AwaitProgress::Yielded => Err(PyStopIteration::new_err((value.unbind(),))),
        AwaitProgress::Waits(future) => {
            let value = python::FUTURE_RESULT.call(future.bind(py), ())?;
            Err(PyStopIteration::new_err((value.unbind(),)))
        }
        AwaitProgress::Ended => Err(PyRuntimeError::new_err(format!(
            "{} is awaited already: await the asyncio task that was made of it, or start it with ctx.spawn",
            node.operation.describe()
        ))),
    }
}

/// The tasks of a combinator: one iterable of them, or the tasks themselves; a branch is made a task.
pub(crate) fn collect(
    execution: &Arc<Execution>,
    arguments: &Bound<'_, pyo3::types::PyTuple>,
) -> PyResult<Vec<Arc<Node>>> {
    let only = if arguments.len() == 1 { Some(arguments.get_item(0)?) } else { None };
    if let Some(only) = only
        && !only.is_instance_of::<Task>()
        && !is_branch(&only)
    {
        let items = only.try_iter().map_err(|_| not_a_task(&only))?;
        return items.map(|item| as_node(execution, &item?)).collect();
    }
    arguments.iter().map(|item| as_node(execution, &item)).collect()
}

/// The task itself, or a task made of a generator or coroutine.
pub(crate) fn as_node(execution: &Arc<Execution>, value: &Bound<'_, PyAny>) -> PyResult<Arc<Node>> {
    if let Ok(task) = value.cast::<Task>() {
        let node = &task.get().node;
        if !Arc::ptr_eq(&task.get().execution, execution) {
            return Err(not_of_this_execution(node));
        }
        return Ok(Arc::clone(node));
    }
    if is_branch(value) {
        // Two branches over one generator would take each other's values.
        if let Some(node) = execution.branch_of(value) {
            return Ok(node);
        }
        if !is_unbegun(value) {
            return Err(PyValueError::new_err(format!(
                "a {} that has begun already cannot be a branch: call its function once more",
                type_name(value)
            )));
        }
        let runner = Runner::new(value.clone().unbind(), Variables::of_caller(value.py())?);
        return Ok(execution.describe(Operation::Branch(runner), Decode::Nothing, None));
    }
    Err(not_a_task(value))
}

fn not_of_this_execution(node: &Node) -> PyErr {
    PyValueError::new_err(format!(
        "{} belongs to another orchestration or to an earlier turn; build it where it is yielded",
        node.operation.describe()
    ))
}

/// Whether a value can be stepped through: a generator or a coroutine.
pub(crate) fn is_branch(value: &Bound<'_, PyAny>) -> bool {
    let py = value.py();
    // A task is stepped by what awaits it.
    if value.is_instance_of::<Task>() {
        return false;
    }
    [intern!(py, "send"), intern!(py, "throw"), intern!(py, "close")]
        .into_iter()
        .all(|name| value.hasattr(name).unwrap_or(false))
}

pub(crate) fn not_a_task(value: &Bound<'_, PyAny>) -> PyErr {
    let kind = type_name(value);
    if matches!(python::FUNCTION_CODE.find(value), Ok(Some(_))) {
        return PyTypeError::new_err(
            "an orchestration waits for tasks, not for functions: call the function, as in ctx.all([branch(ctx)])",
        );
    }
    if is_coroutine(value) {
        return PyTypeError::new_err(
            "a coroutine was yielded: ctx.spawn(...) or ctx.gather(...) runs it as a branch, and an 'async def' \
             orchestration can await it; asyncio's own, such as asyncio.sleep, work only there",
        );
    }
    if is_branch(value) {
        return PyTypeError::new_err(format!(
            "a {kind} was yielded: write 'yield from' (or 'await') to run it here, or ctx.spawn(...) to run it beside"
        ));
    }
    // An awaited future of asyncio yields itself, and asyncio.sleep(0) yields nothing.
    if value.is_none() || matches!(python::FUTURE_IS_AWAITED.find(value), Ok(Some(_))) {
        return PyTypeError::new_err(format!(
            "a value of type {kind} was yielded, as by asyncio, which works only in an 'async def' orchestration: wait for \
             tasks of the context, such as ctx.schedule_activity(...), or ctx.schedule_timer(...) in place of asyncio.sleep"
        ));
    }
    PyTypeError::new_err(format!(
        "an orchestration can only wait for tasks made by its context, such as ctx.schedule_activity(...), not for a \
         value of type {kind}"
    ))
}
