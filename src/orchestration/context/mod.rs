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
use crate::orchestration::context::arguments::{check_version, duration, payload};
use crate::orchestration::context::function_name::FunctionName;
use crate::orchestration::execution::Execution;
use crate::orchestration::limits;
use crate::orchestration::limits::{check_instance_id, check_name};
use crate::orchestration::operation::Operation;
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

#[pymethods]
impl OrchestrationContext {
    #[getter]
    fn instance_id(&self) -> &str {
        &self.execution.instance
    }

    #[getter]
    fn execution_id(&self) -> u64 {
        self.execution.execution_id
    }

    #[getter]
    fn orchestration_name(&self) -> &str {
        &self.execution.orchestration_name
    }

    #[getter]
    fn orchestration_version(&self) -> &str {
        &self.execution.orchestration_version
    }

    fn is_replaying(&self) -> PyResult<bool> {
        self.execution.check()?;
        Ok(self.execution.is_replaying())
    }

    #[expect(clippy::too_many_arguments, reason = "one argument a field of the operation")]
    #[pyo3(signature = (name, input=None, *, session_id=None, tag=None, retry=None, result_type=None))]
    fn schedule_activity(
        &self,
        py: Python<'_>,
        name: FunctionName,
        input: Option<&Bound<'_, PyAny>>,
        session_id: Option<String>,
        tag: Option<String>,
        retry: Option<&Bound<'_, PyAny>>,
        result_type: Option<Py<PyAny>>,
    ) -> PyResult<Task> {
        self.activity(py, name, input, session_id, tag, retry, result_type)
    }

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
        self.activity(py, name, input, Some(session_id), tag, None, result_type)
    }

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
        self.activity(py, name, input, session_id, tag, Some(retry.unwrap_or(&default)), result_type)
    }

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
        self.activity(py, name, input, Some(session_id), tag, Some(retry), result_type)
    }

    fn schedule_timer(&self, py: Python<'_>, delay: &Bound<'_, PyAny>) -> PyResult<Task> {
        let delay = duration(delay)?;
        self.task(py, Operation::Timer(delay), Decode::Nothing)
    }

    #[pyo3(signature = (name, *, result_type=None))]
    fn wait_for_event(&self, py: Python<'_>, name: String, result_type: Option<Py<PyAny>>) -> PyResult<Task> {
        check_name("the name of the event", &name)?;
        self.task(py, Operation::Event(name), Decode::typed(result_type, Decode::Json))
    }

    #[pyo3(signature = (queue, *, result_type=None))]
    fn dequeue_event(&self, py: Python<'_>, queue: String, result_type: Option<Py<PyAny>>) -> PyResult<Task> {
        check_name("the name of the queue", &queue)?;
        if queue == CANCELLATION_QUEUE {
            return Err(PyValueError::new_err(format!(
                "queue '{queue}' is how a request for the end reaches the code: it raises CancelledError; choose another name"
            )));
        }
        self.task(py, Operation::Queue(queue), Decode::typed(result_type, Decode::Raw))
    }

    #[pyo3(signature = (name, input=None, *, instance_id=None, version=None, result_type=None))]
    fn schedule_sub_orchestration(
        &self,
        py: Python<'_>,
        name: FunctionName,
        input: Option<&Bound<'_, PyAny>>,
        instance_id: Option<String>,
        version: Option<String>,
        result_type: Option<Py<PyAny>>,
    ) -> PyResult<Task> {
        self.sub_orchestration(py, name, input, instance_id, version, result_type)
    }

    #[pyo3(signature = (name, instance_id, input=None, *, result_type=None))]
    fn schedule_sub_orchestration_with_id(
        &self,
        py: Python<'_>,
        name: FunctionName,
        instance_id: String,
        input: Option<&Bound<'_, PyAny>>,
        result_type: Option<Py<PyAny>>,
    ) -> PyResult<Task> {
        self.sub_orchestration(py, name, input, Some(instance_id), None, result_type)
    }

    #[pyo3(signature = (name, version, input=None, *, result_type=None))]
    fn schedule_sub_orchestration_versioned(
        &self,
        py: Python<'_>,
        name: FunctionName,
        version: Option<String>,
        input: Option<&Bound<'_, PyAny>>,
        result_type: Option<Py<PyAny>>,
    ) -> PyResult<Task> {
        self.sub_orchestration(py, name, input, None, version, result_type)
    }

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
        self.sub_orchestration(py, name, input, Some(instance_id), version, result_type)
    }

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

    #[pyo3(signature = (*tasks))]
    fn all(&self, py: Python<'_>, tasks: &Bound<'_, PyTuple>) -> PyResult<Task> {
        let tasks = self.tasks(tasks)?;
        self.task(py, Operation::All(tasks), Decode::Nothing)
    }

    #[pyo3(signature = (*tasks))]
    fn gather(&self, py: Python<'_>, tasks: &Bound<'_, PyTuple>) -> PyResult<Task> {
        let tasks = self.tasks(tasks)?;
        self.task(py, Operation::Gather(tasks), Decode::Nothing)
    }

    #[pyo3(signature = (*tasks))]
    fn race(&self, py: Python<'_>, tasks: &Bound<'_, PyTuple>) -> PyResult<Task> {
        let tasks = self.tasks(tasks)?;
        if tasks.is_empty() {
            return Err(PyValueError::new_err("a race needs at least one task: nobody could win this one"));
        }
        self.task(py, Operation::Race(tasks), Decode::Nothing)
    }

    fn spawn(&self, task: &Bound<'_, PyAny>) -> PyResult<Task> {
        self.execution.check_effect()?;
        let node = as_node(&self.execution, task)?;
        self.execution.arena().start(&node);
        Ok(Task::new(Arc::clone(&self.execution), node))
    }

    fn utc_now(&self, py: Python<'_>) -> PyResult<Task> {
        self.system_activity(py, "utc_now_ms", Decode::Json)
    }

    fn new_guid(&self, py: Python<'_>) -> PyResult<Task> {
        self.system_activity(py, "new_guid", Decode::Raw)
    }

    fn now<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.execution.check()?;
        let milliseconds = PyDict::new(py);
        milliseconds.set_item("milliseconds", self.execution.now_ms())?;
        let since = TIMEDELTA.call_with(&milliseconds)?;
        let utc = TIMEZONE_UTC.get(TIMEZONE.get(py)?)?;
        DATETIME_FROM_TIMESTAMP.call(DATETIME.get(py)?, (0, utc))?.add(since)
    }

    fn random<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.stream(py, &self.random, "random")
    }

    fn uuid<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bits = RANDOM_BITS.call(&self.stream(py, &self.uuids, "uuid")?, (128,))?;
        let arguments = PyDict::new(py);
        arguments.set_item("int", bits)?;
        arguments.set_item("version", 4)?;
        UUID.call_with(&arguments)
    }

    fn set_custom_status(&self, status: String) -> PyResult<()> {
        self.execution.check_effect()?;
        limits::check_custom_status(&status)?;
        self.execution.set_status(Some(status));
        Ok(())
    }

    fn reset_custom_status(&self) -> PyResult<()> {
        self.execution.check_effect()?;
        self.execution.set_status(None);
        Ok(())
    }

    fn get_custom_status(&self) -> PyResult<Option<String>> {
        self.execution.check()?;
        Ok(self.execution.status())
    }

    fn set_kv_value(&self, key: &str, value: &str) -> PyResult<()> {
        self.execution.check_effect()?;
        let engine = self.execution.engine();
        let added = usize::from(engine.get_kv_value(key).is_none());
        limits::check_kv(key, value, engine.get_kv_length() + added)?;
        self.execution.write_kv(key, value);
        Ok(())
    }

    fn get_kv_value(&self, key: &str) -> PyResult<Option<String>> {
        self.execution.check()?;
        Ok(self.execution.engine().get_kv_value(key))
    }

    fn get_kv_all_values(&self) -> PyResult<BTreeMap<String, String>> {
        self.execution.check()?;
        // In key order, since the engine's own order differs from run to run.
        Ok(self.execution.engine().get_kv_all_values().into_iter().collect())
    }

    fn get_kv_all_keys(&self) -> PyResult<Vec<String>> {
        self.execution.check()?;
        Ok(self.execution.engine().get_kv_all_keys())
    }

    fn get_kv_length(&self) -> PyResult<usize> {
        self.execution.check()?;
        Ok(self.execution.engine().get_kv_length())
    }

    fn clear_kv_value(&self, key: &str) -> PyResult<()> {
        self.execution.check_effect()?;
        self.execution.clear_kv(key);
        Ok(())
    }

    fn clear_all_kv_values(&self) -> PyResult<()> {
        self.execution.check_effect()?;
        self.execution.clear_all_kv();
        Ok(())
    }

    fn prune_kv_values_updated_before(&self, cutoff_ms: u64) -> PyResult<usize> {
        self.execution.check_effect()?;
        let keys = self.execution.keys_written_before(cutoff_ms);
        for key in &keys {
            self.execution.clear_kv(key);
        }
        Ok(keys.len())
    }

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

    fn trace_info(&self, message: String) -> PyResult<()> {
        self.trace("INFO", message)
    }

    fn trace_warn(&self, message: String) -> PyResult<()> {
        self.trace("WARN", message)
    }

    fn trace_error(&self, message: String) -> PyResult<()> {
        self.trace("ERROR", message)
    }

    fn trace_debug(&self, message: String) -> PyResult<()> {
        self.trace("DEBUG", message)
    }

    fn __repr__(&self) -> String {
        format!(
            "<OrchestrationContext of instance '{}', execution {}>",
            self.execution.instance, self.execution.execution_id
        )
    }
}
