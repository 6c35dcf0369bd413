//! The context that an orchestration is called with.

mod arguments;
pub(crate) mod function_name;
pub(crate) mod scheduling;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::boundary::codec::Decode;
use crate::boundary::python::{
    DATETIME, DATETIME_FROM_TIMESTAMP, RANDOM_BITS, TIMEDELTA, TIMEZONE, TIMEZONE_UTC, UUID,
};
use crate::logging::TraceText;
use crate::orchestration::context::arguments::{check_version, duration, payload};
use crate::orchestration::context::function_name::FunctionName;
use crate::orchestration::execution::Execution;
use crate::orchestration::limits;
use crate::orchestration::limits::{check_instance_id, check_name};
use crate::orchestration::operation::{Operation, WaitUntil};
use crate::orchestration::task::{Task, as_node};
use engine_adapter::CANCELLATION_QUEUE;

/// The operations of an orchestration. Every method is deterministic.
#[pyclass(frozen, module = "duroxide._native")]
pub(crate) struct OrchestrationContext {
    execution: Arc<Execution>,
    /// The two streams of deterministic randomness, made when they are first used.
    random: Mutex<Option<Py<PyAny>>>,
    uuids: Mutex<Option<Py<PyAny>>>,
}

/// The context of the orchestration whose code is calling, if there is one.
#[pyfunction]
pub(crate) fn current_context(py: Python<'_>) -> Option<Py<PyAny>> {
    Execution::current_context(py)
}

#[expect(clippy::doc_markdown, reason = "Python shows these descriptions, which have the form of its docstrings")]
#[pymethods]
impl OrchestrationContext {
    /// Id of the instance.
    #[getter]
    fn instance_id(&self) -> &str {
        &self.execution.instance
    }

    /// Number of the execution, counted from 1; continue-as-new starts the next.
    #[getter]
    fn execution_id(&self) -> u64 {
        self.execution.execution_id
    }

    /// Name of the orchestration.
    #[getter]
    fn orchestration_name(&self) -> &str {
        &self.execution.orchestration_name
    }

    /// Version of the orchestration.
    #[getter]
    fn orchestration_version(&self) -> &str {
        &self.execution.orchestration_version
    }

    /// Tell whether history already has the current step.
    fn is_replaying(&self) -> PyResult<bool> {
        self.execution.check()?;
        Ok(self.execution.is_replaying())
    }

    /// Run an activity.
    ///
    /// Args:
    ///     name: Name of the activity, or the declared activity itself.
    ///     input: Its input, any value that can be written as JSON; default ``None``.
    ///     session_id: Session whose worker must run it; default ``None``, any worker.
    ///     tag: Tag that its worker must serve; default ``None``, a worker for activities without a tag.
    ///     retry: Retry policy, a ``RetryPolicy`` or a dictionary; default ``None``, no retries.
    ///     cancellation: What a cancelled wait for the task does about the activity. ``"abandon"``: the wait ends at once.
    ///         ``"wait"``: the activity is asked to end, and the wait ends when it has ended. Only in an ``async def``
    ///         orchestration; default ``None``, which is ``"abandon"``.
    ///     result_type: Type to convert the result to; default ``None``, the annotation of the activity if this process
    ///         has registered it.
    ///
    /// Returns:
    ///     A task with the result.
    ///
    /// Raises:
    ///     CodecError: The input cannot be written as JSON.
    ///     LimitExceeded: A name or the input is too long.
    ///     ActivityFailed: The activity raised; raised where the task is yielded or awaited.
    ///     ActivityTimedOut: A timeout of ``retry`` passed; raised where the task is yielded or awaited.
    #[expect(clippy::too_many_arguments, reason = "one argument a field of the operation")]
    #[pyo3(signature = (name, input=None, session_id=None, *, tag=None, retry=None, cancellation=None, result_type=None))]
    fn schedule_activity(
        &self,
        py: Python<'_>,
        name: FunctionName,
        input: Option<&Bound<'_, PyAny>>,
        session_id: Option<String>,
        tag: Option<String>,
        retry: Option<&Bound<'_, PyAny>>,
        cancellation: Option<&str>,
        result_type: Option<Py<PyAny>>,
    ) -> PyResult<Task> {
        self.activity(py, name, input, session_id, tag, retry, cancellation, result_type)
    }

    /// Run an activity on the worker that holds a session; otherwise as ``schedule_activity``.
    ///
    /// Args:
    ///     name: Name of the activity, or the declared activity itself.
    ///     input: Its input, any value that can be written as JSON.
    ///     session_id: The session; the worker of its first activity holds it.
    ///     tag: As for ``schedule_activity``; default ``None``.
    ///     result_type: As for ``schedule_activity``; default ``None``.
    #[pyo3(signature = (name, input, session_id, *, tag=None, result_type=None))]
    fn schedule_activity_on_session(
        &self,
        py: Python<'_>,
        name: FunctionName,
        input: Option<&Bound<'_, PyAny>>,
        session_id: String,
        tag: Option<String>,
        result_type: Option<Py<PyAny>>,
    ) -> PyResult<Task> {
        self.activity(py, name, input, Some(session_id), tag, None, None, result_type)
    }

    /// Run an activity with the retry policy ``retry``; otherwise as ``schedule_activity``.
    ///
    /// Args:
    ///     name: Name of the activity, or the declared activity itself.
    ///     input: Its input, any value that can be written as JSON.
    ///     retry: A ``RetryPolicy`` or a dictionary; default ``None``, the default ``RetryPolicy``: three attempts.
    ///     session_id: As for ``schedule_activity``; default ``None``.
    ///     tag: As for ``schedule_activity``; default ``None``.
    ///     result_type: As for ``schedule_activity``; default ``None``.
    ///
    /// Raises:
    ///     ConfigurationError: ``retry`` has an invalid value.
    #[expect(clippy::too_many_arguments, reason = "one argument a field of the operation")]
    #[pyo3(signature = (name, input, retry=None, *, session_id=None, tag=None, result_type=None))]
    fn schedule_activity_with_retry(
        &self,
        py: Python<'_>,
        name: FunctionName,
        input: Option<&Bound<'_, PyAny>>,
        retry: Option<&Bound<'_, PyAny>>,
        session_id: Option<String>,
        tag: Option<String>,
        result_type: Option<Py<PyAny>>,
    ) -> PyResult<Task> {
        let default = PyDict::new(py).into_any();
        self.activity(py, name, input, session_id, tag, Some(retry.unwrap_or(&default)), None, result_type)
    }

    /// Run an activity on the worker that holds a session, with the retry policy ``retry``.
    ///
    /// Args:
    ///     name: Name of the activity, or the declared activity itself.
    ///     input: Its input, any value that can be written as JSON.
    ///     retry: A ``RetryPolicy`` or a dictionary; ``None`` for the default ``RetryPolicy``: three attempts.
    ///     session_id: The session.
    ///     tag: As for ``schedule_activity``; default ``None``.
    ///     result_type: As for ``schedule_activity``; default ``None``.
    ///
    /// Raises:
    ///     ConfigurationError: ``retry`` has an invalid value.
    #[expect(clippy::too_many_arguments, reason = "one argument a field of the operation")]
    #[pyo3(signature = (name, input, retry, session_id, *, tag=None, result_type=None))]
    fn schedule_activity_with_retry_on_session(
        &self,
        py: Python<'_>,
        name: FunctionName,
        input: Option<&Bound<'_, PyAny>>,
        retry: &Bound<'_, PyAny>,
        session_id: String,
        tag: Option<String>,
        result_type: Option<Py<PyAny>>,
    ) -> PyResult<Task> {
        self.activity(py, name, input, Some(session_id), tag, Some(retry), None, result_type)
    }

    /// Wait for a durable timer, which survives restarts.
    ///
    /// Args:
    ///     delay_ms: Time to wait, in milliseconds or as a ``timedelta``, from zero to ten years.
    ///
    /// Raises:
    ///     ValueError: The time is negative or too long.
    fn schedule_timer(&self, py: Python<'_>, delay_ms: &Bound<'_, PyAny>) -> PyResult<Task> {
        let delay = duration(delay_ms)?;
        self.task(py, Operation::Timer(delay), Decode::Nothing)
    }

    /// Wait for an event that ``client.raise_event`` raises.
    ///
    /// Args:
    ///     name: Name of the event.
    ///     result_type: Type to convert the data to; default ``None``, the JSON value as it is.
    ///
    /// Returns:
    ///     A task with the data of the event.
    #[pyo3(signature = (name, *, result_type=None))]
    fn wait_for_event(&self, py: Python<'_>, name: String, result_type: Option<Py<PyAny>>) -> PyResult<Task> {
        check_name("the name of the event", &name)?;
        self.task(py, Operation::Event(name), Decode::typed(result_type, Decode::Json))
    }

    /// Take the oldest message of a queue of this instance; wait for a message if the queue is empty.
    ///
    /// Args:
    ///     queue_name: Name of the queue.
    ///     result_type: Type to convert the message to, read as JSON; default ``None``, the text as it was sent.
    ///
    /// Returns:
    ///     A task with the message.
    #[pyo3(signature = (queue_name, *, result_type=None))]
    fn dequeue_event(&self, py: Python<'_>, queue_name: String, result_type: Option<Py<PyAny>>) -> PyResult<Task> {
        check_name("the name of the queue", &queue_name)?;
        if queue_name.starts_with(CANCELLATION_QUEUE) {
            return Err(PyValueError::new_err(format!(
                "queue '{queue_name}' is how a request for the end reaches the code: it raises CancelledError; choose another name"
            )));
        }
        self.task(py, Operation::Queue(queue_name), Decode::typed(result_type, Decode::Raw))
    }

    /// Run another orchestration and wait for its end.
    ///
    /// Args:
    ///     name: Name of the orchestration, or the declared orchestration itself.
    ///     input: Its input; default ``None``.
    ///     instance_id: Id of its instance; default ``None``, one derived from this instance.
    ///     version: Version to run; default ``None``, the newest.
    ///     retry: Retry policy, a ``RetryPolicy`` or a dictionary; default ``None``, one attempt. Every attempt is a new
    ///         instance. With an ``instance_id``, the second one has the id ``{instance_id}-attempt-2``, and so on.
    ///     result_type: Type to convert the result to; default ``None``, the annotation of the orchestration if this
    ///         process has registered it.
    ///
    /// Returns:
    ///     A task with the result.
    ///
    /// Raises:
    ///     SubOrchestrationFailed: The child failed or was cancelled; raised where the task is yielded or awaited.
    ///     SubOrchestrationTimedOut: A timeout of ``retry`` passed; raised where the task is yielded or awaited.
    #[expect(clippy::too_many_arguments, reason = "one argument a field of the operation")]
    #[pyo3(signature = (name, input=None, *, instance_id=None, version=None, retry=None, result_type=None))]
    fn schedule_sub_orchestration(
        &self,
        py: Python<'_>,
        name: FunctionName,
        input: Option<&Bound<'_, PyAny>>,
        instance_id: Option<String>,
        version: Option<String>,
        retry: Option<&Bound<'_, PyAny>>,
        result_type: Option<Py<PyAny>>,
    ) -> PyResult<Task> {
        self.sub_orchestration(py, name, input, instance_id, version, retry, result_type)
    }

    /// Run another orchestration under a given ``instance_id``; otherwise as ``schedule_sub_orchestration``.
    #[pyo3(signature = (name, instance_id, input=None, *, result_type=None))]
    fn schedule_sub_orchestration_with_id(
        &self,
        py: Python<'_>,
        name: FunctionName,
        instance_id: String,
        input: Option<&Bound<'_, PyAny>>,
        result_type: Option<Py<PyAny>>,
    ) -> PyResult<Task> {
        self.sub_orchestration(py, name, input, Some(instance_id), None, None, result_type)
    }

    /// Run one version of another orchestration; otherwise as ``schedule_sub_orchestration``.
    #[pyo3(signature = (name, version=None, input=None, *, result_type=None))]
    fn schedule_sub_orchestration_versioned(
        &self,
        py: Python<'_>,
        name: FunctionName,
        version: Option<String>,
        input: Option<&Bound<'_, PyAny>>,
        result_type: Option<Py<PyAny>>,
    ) -> PyResult<Task> {
        self.sub_orchestration(py, name, input, None, version, None, result_type)
    }

    /// Run one version under a given ``instance_id``; otherwise as ``schedule_sub_orchestration``.
    #[pyo3(signature = (name, version, instance_id, input=None, *, result_type=None))]
    fn schedule_sub_orchestration_versioned_with_id(
        &self,
        py: Python<'_>,
        name: FunctionName,
        version: Option<String>,
        instance_id: String,
        input: Option<&Bound<'_, PyAny>>,
        result_type: Option<Py<PyAny>>,
    ) -> PyResult<Task> {
        self.sub_orchestration(py, name, input, Some(instance_id), version, None, result_type)
    }

    /// Start another orchestration that runs independently, and continue at once.
    ///
    /// Args:
    ///     name: Name of the orchestration, or the declared orchestration itself.
    ///     instance_id: Id of its instance.
    ///     input: Its input; default ``None``.
    ///     version: Version to run; default ``None``, the newest.
    #[pyo3(signature = (name, instance_id, input=None, *, version=None))]
    fn start_orchestration(
        &self,
        py: Python<'_>,
        name: FunctionName,
        instance_id: String,
        input: Option<&Bound<'_, PyAny>>,
        version: Option<String>,
    ) -> PyResult<Task> {
        let (name, _) = name.of_kind("orchestration")?;
        check_name("the name of the orchestration", &name)?;
        check_instance_id(&instance_id)?;
        check_version(version.as_deref())?;
        let input = payload(py, input)?;
        self.task(py, Operation::Start { name, version, instance_id, input }, Decode::Nothing)
    }

    /// End this execution and start the orchestration again with an empty history; the task never returns.
    ///
    /// Args:
    ///     input: Input of the next execution; default ``None``.
    ///     version: Version of the next execution; default ``None``, the newest.
    #[pyo3(signature = (input=None, *, version=None))]
    fn continue_as_new(
        &self,
        py: Python<'_>,
        input: Option<&Bound<'_, PyAny>>,
        version: Option<String>,
    ) -> PyResult<Task> {
        check_version(version.as_deref())?;
        let input = payload(py, input)?;
        self.task(py, Operation::ContinueAsNew { version, input }, Decode::Nothing)
    }

    /// Run tasks concurrently and wait for all of them.
    ///
    /// Args:
    ///     tasks: Tasks, generators or coroutines, any number of them, one by one or as a list.
    ///
    /// Returns:
    ///     A task with one outcome for each, in order: ``{"ok": value}`` or ``{"err": failure}``.
    #[pyo3(signature = (*several, tasks=None))]
    fn all(&self, py: Python<'_>, several: &Bound<'_, PyTuple>, tasks: Option<&Bound<'_, PyAny>>) -> PyResult<Task> {
        let mut all = self.tasks(several)?;
        if let Some(tasks) = tasks {
            all.extend(self.tasks(&PyTuple::new(py, [tasks])?)?);
        }
        self.task(py, Operation::All(all), Decode::Nothing)
    }

    /// Run tasks concurrently and wait for all of them.
    ///
    /// Args:
    ///     tasks: Tasks, generators or coroutines, one by one or as a list.
    ///
    /// Returns:
    ///     A task with their values, in order.
    ///
    /// Raises:
    ///     TaskFailed: One of them failed; raised where the task is yielded or awaited.
    #[pyo3(signature = (*tasks))]
    fn gather(&self, py: Python<'_>, tasks: &Bound<'_, PyTuple>) -> PyResult<Task> {
        let tasks = self.tasks(tasks)?;
        self.task(py, Operation::Gather(tasks), Decode::Nothing)
    }

    /// Wait for the first of several tasks and cancel the others.
    ///
    /// Args:
    ///     tasks: Tasks, generators or coroutines, one by one or as a list.
    ///
    /// Returns:
    ///     A task with ``{"index": position, "value": value}`` of the first task to end; if two end at the same time,
    ///     of the one that started first.
    ///
    /// Raises:
    ///     TaskFailed: The first task to end failed; ``index`` of the exception is its position. Raised where the task
    ///         is yielded or awaited.
    #[pyo3(signature = (*tasks))]
    fn race(&self, py: Python<'_>, tasks: &Bound<'_, PyTuple>) -> PyResult<Task> {
        let tasks = self.tasks(tasks)?;
        if tasks.is_empty() {
            return Err(PyValueError::new_err("a race needs at least one task: nobody could win this one"));
        }
        self.task(py, Operation::Race(tasks), Decode::Nothing)
    }

    /// Run tasks concurrently, and wait for the first or for all of them. The tasks are kept: none is cancelled.
    ///
    /// Args:
    ///     tasks: Tasks; a task that runs already may be among them.
    ///     return_when: ``"FIRST_COMPLETED"`` to wait for the first, ``"ALL_COMPLETED"`` to wait for all; default all.
    ///
    /// Returns:
    ///     A task with two lists, ``(done, pending)``. Of ``"FIRST_COMPLETED"``, ``done`` has one task: if several have
    ///     ended, the one that started first. Yield or await a task for its value or its failure.
    ///
    /// Raises:
    ///     ValueError: There are no tasks, or ``return_when`` is unknown.
    #[pyo3(signature = (tasks, *, return_when="ALL_COMPLETED"))]
    fn wait(&self, py: Python<'_>, tasks: &Bound<'_, PyAny>, return_when: &str) -> PyResult<Task> {
        let Some(until) = WaitUntil::of_name(return_when) else {
            return Err(PyValueError::new_err(format!(
                "return_when '{return_when}' is unknown; use 'FIRST_COMPLETED' or 'ALL_COMPLETED', and gather for the first \
                 failure"
            )));
        };
        let tasks = self.tasks(&PyTuple::new(py, [tasks])?)?;
        if tasks.is_empty() {
            return Err(PyValueError::new_err("wait needs at least one task"));
        }
        self.task(py, Operation::Wait { tasks, until }, Decode::Nothing)
    }

    /// Start ``task`` at once, without a yield, and return a task to be yielded or awaited later.
    fn spawn(&self, task: &Bound<'_, PyAny>) -> PyResult<Task> {
        self.execution.check_effect()?;
        let node = as_node(&self.execution, task)?;
        self.execution.arena().start(&node);
        Ok(Task::new(Arc::clone(&self.execution), node))
    }

    /// Read the time as a recorded step, in milliseconds since 1970.
    fn utc_now(&self, py: Python<'_>) -> PyResult<Task> {
        self.system_activity(py, "utc_now_ms", Decode::Json)
    }

    /// Create a unique id as a recorded step.
    fn new_guid(&self, py: Python<'_>) -> PyResult<Task> {
        self.system_activity(py, "new_guid", Decode::Raw)
    }

    /// Return the time of the current step, in UTC, at once and without a record.
    fn now<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.execution.check()?;
        let milliseconds = PyDict::new(py);
        milliseconds.set_item("milliseconds", self.execution.now_ms())?;
        let since = TIMEDELTA.call_with(&milliseconds)?;
        let utc = TIMEZONE_UTC.get(TIMEZONE.get(py)?)?;
        DATETIME_FROM_TIMESTAMP.call(DATETIME.get(py)?, (0, utc))?.add(since)
    }

    /// Return at once a random generator with a seed from this execution; not for secrets.
    fn random<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.stream(py, &self.random, "random")
    }

    /// Return a new unique id at once, without a record.
    fn uuid<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bits = RANDOM_BITS.call(&self.stream(py, &self.uuids, "uuid")?, (128,))?;
        let arguments = PyDict::new(py);
        arguments.set_item("int", bits)?;
        arguments.set_item("version", 4)?;
        UUID.call_with(&arguments)
    }

    /// Publish a status text that clients can read and wait for.
    ///
    /// Args:
    ///     status: The text, at most 262,144 bytes.
    ///
    /// Raises:
    ///     LimitExceeded: The text is longer than that.
    fn set_custom_status(&self, status: String) -> PyResult<()> {
        self.execution.check_effect()?;
        limits::check_custom_status(&status)?;
        self.execution.set_status(Some(status));
        Ok(())
    }

    /// Remove the status text.
    fn reset_custom_status(&self) -> PyResult<()> {
        self.execution.check_effect()?;
        self.execution.set_status(None);
        Ok(())
    }

    /// Return the status text, or ``None``.
    fn get_custom_status(&self) -> PyResult<Option<String>> {
        self.execution.check()?;
        Ok(self.execution.status())
    }

    /// Set one value of this instance.
    ///
    /// Args:
    ///     key: The key; an instance has at most 150 keys.
    ///     value: The text, at most 65,536 bytes.
    ///
    /// Raises:
    ///     LimitExceeded: There are too many keys, or the value is too long.
    fn set_kv_value(&self, key: &str, value: &str) -> PyResult<()> {
        self.execution.check_effect()?;
        let engine = self.execution.engine();
        let added = usize::from(engine.get_kv_value(key).is_none());
        limits::check_kv(key, value, engine.get_kv_length() + added)?;
        self.execution.write_kv(key, value);
        Ok(())
    }

    /// Return the value of ``key`` of this instance, or ``None``.
    fn get_kv_value(&self, key: &str) -> PyResult<Option<String>> {
        self.execution.check()?;
        Ok(self.execution.engine().get_kv_value(key))
    }

    /// Return all values of this instance.
    fn get_kv_all_values(&self) -> PyResult<BTreeMap<String, String>> {
        self.execution.check()?;
        // In key order, since the engine's own order differs from run to run.
        Ok(self.execution.engine().get_kv_all_values().into_iter().collect())
    }

    /// Return all keys of this instance.
    fn get_kv_all_keys(&self) -> PyResult<Vec<String>> {
        self.execution.check()?;
        Ok(self.execution.engine().get_kv_all_keys())
    }

    /// Return the number of keys of this instance.
    fn get_kv_length(&self) -> PyResult<usize> {
        self.execution.check()?;
        Ok(self.execution.engine().get_kv_length())
    }

    /// Remove ``key`` and its value, if the instance has it.
    fn clear_kv_value(&self, key: &str) -> PyResult<()> {
        self.execution.check_effect()?;
        self.execution.clear_kv(key);
        Ok(())
    }

    /// Remove all keys.
    fn clear_all_kv_values(&self) -> PyResult<()> {
        self.execution.check_effect()?;
        self.execution.clear_all_kv();
        Ok(())
    }

    /// Remove the keys that were last set before a moment.
    ///
    /// Args:
    ///     cutoff_ms: The moment, in milliseconds since 1970.
    ///
    /// Returns:
    ///     How many keys were removed.
    fn prune_kv_values_updated_before(&self, cutoff_ms: u64) -> PyResult<usize> {
        self.execution.check_effect()?;
        let keys = self.execution.keys_written_before(cutoff_ms);
        for key in &keys {
            self.execution.clear_kv(key);
        }
        Ok(keys.len())
    }

    /// Read one value of another instance as a recorded step.
    ///
    /// Args:
    ///     instance_id: The other instance, which need not exist.
    ///     key: The key.
    ///     result_type: Type to convert the value to, read as JSON; default ``None``, the text as it was set.
    ///
    /// Returns:
    ///     A task with the value, or with ``None`` if the instance does not exist or does not have the key.
    #[pyo3(signature = (instance_id, key, *, result_type=None))]
    fn get_kv_value_from_instance(
        &self,
        py: Python<'_>,
        instance_id: String,
        key: String,
        result_type: Option<Py<PyAny>>,
    ) -> PyResult<Task> {
        check_name("the instance id", &instance_id)?;
        check_name("the KV key", &key)?;
        let decode = result_type.map_or(Decode::Json, Decode::Nested);
        self.task(py, Operation::InstanceValue { instance_id, key }, decode)
    }

    /// Log ``message``.
    fn trace_info(&self, message: TraceText) -> PyResult<()> {
        self.trace("INFO", message.0)
    }

    /// Log ``message`` as a warning.
    fn trace_warn(&self, message: TraceText) -> PyResult<()> {
        self.trace("WARN", message.0)
    }

    /// Log ``message`` as an error.
    fn trace_error(&self, message: TraceText) -> PyResult<()> {
        self.trace("ERROR", message.0)
    }

    /// Log ``message`` for debugging.
    fn trace_debug(&self, message: TraceText) -> PyResult<()> {
        self.trace("DEBUG", message.0)
    }

    fn __repr__(&self) -> String {
        format!(
            "<OrchestrationContext of instance '{}', execution {}>",
            self.execution.instance, self.execution.execution_id
        )
    }
}
