//! The task that Python code holds, and how the outcome of its slot becomes a Python object or an exception.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;

use crate::boundary;
use crate::boundary::codec::Decode;
use crate::boundary::limits::type_name;
use crate::boundary::python;
use crate::orchestration::coroutines::{is_coroutine, is_unbegun};
use crate::orchestration::event_loop::AwaitedTask;
use crate::orchestration::execution::Execution;
use crate::orchestration::operation::{Node, Operation};

/// A lazy description of a durable operation: `yield`, `yield from` or `await` it, or give it to a combinator.
#[pyclass(frozen, generic, name = "Task", module = "duroxide._native")]
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
}

#[pymethods]
impl Task {
    /// The same activity, for workers that take this tag.
    fn with_tag(&self, py: Python<'_>, tag: &str) -> PyResult<Self> {
        let Operation::Activity(call) = &self.node.operation else {
            return Err(PyTypeError::new_err(format!(
                "{} cannot be tagged: tags route activities to workers",
                self.node.operation.describe()
            )));
        };
        if self.node.slot().is_some() {
            return Err(PyValueError::new_err(format!(
                "{} was started already: set its tag before it is yielded",
                self.node.operation.describe()
            )));
        }
        self.execution.check()?;
        crate::orchestration::limits::check_tag(tag)?;
        let mut call = call.clone();
        call.tag = Some(tag.to_owned());
        let decode = match &self.node.decode {
            Decode::Typed(annotation) => Decode::Typed(annotation.clone_ref(py)),
            _ => Decode::Json,
        };
        self.node.set_replaced();
        let node = self.execution.describe(Operation::Activity(call), decode, boundary::origin::caller(py));
        Ok(Self::new(Arc::clone(&self.execution), node))
    }

    fn __iter__(slf: Py<Self>) -> TaskSteps {
        TaskSteps { task: slf, state: Mutex::new(AwaitProgress::Unbegun) }
    }

    fn __await__(slf: Py<Self>) -> TaskSteps {
        TaskSteps { task: slf, state: Mutex::new(AwaitProgress::Unbegun) }
    }

    // A task is a coroutine: asyncio makes its own tasks of it, as in `asyncio.create_task(ship(order))`.

    fn send<'py>(slf: &Bound<'py, Self>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        step(slf, &slf.get().state, value)
    }

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

    fn close(&self) {
        *self.state.lock() = AwaitProgress::Ended;
    }

    /// The place of the task among all that its orchestration has described: sets of tasks have the same order at every replay.
    fn __hash__(&self) -> usize {
        self.node.number
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
        if is_coroutine(value)
            && let Some(event_loop) = execution.running_loop(value.py())
        {
            python::LOOP_DESCRIBE_BRANCH.call(&event_loop, (value,))?;
        }
        let operation = Operation::Branch(Arc::new(value.clone().unbind()));
        return Ok(execution.describe(operation, Decode::Nothing, None));
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
    if is_branch(value) {
        return PyTypeError::new_err(format!(
            "a {kind} was yielded: write 'yield from' (or 'await') to run it here, or ctx.spawn(...) to run it beside"
        ));
    }
    PyTypeError::new_err(format!(
        "an orchestration can only wait for tasks made by its context, such as ctx.schedule_activity(...), not for a \
         value of type {kind}"
    ))
}
