//! What the methods of the context have in common: checked arguments become operations, operations become tasks.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::boundary;
use crate::boundary::codec::Decode;
use crate::boundary::errors::{ConfigurationError, LimitExceeded};
use crate::boundary::options::choices;
use crate::boundary::python::RANDOM;
use crate::orchestration::context::OrchestrationContext;
use crate::orchestration::context::arguments::{check_version, payload};
use crate::orchestration::context::function_name::FunctionName;
use crate::orchestration::execution::Execution;
use crate::orchestration::limits;
use crate::orchestration::limits::{check_instance_id, check_name};
use crate::orchestration::operation::{ActivityCall, Node, Operation, Tag, id_of_attempt};
use crate::orchestration::retry_policy::RetryPolicy;
use crate::orchestration::task::{Task, collect};

choices! {
    /// What a task that is cancelled does about its activity, as Python names it.
    enum OnCancellation("cancellation") {
        Abandon = "abandon",
        Wait = "wait",
    }
}

impl OrchestrationContext {
    pub(crate) fn new(execution: Arc<Execution>) -> Self {
        Self { execution, random: Mutex::new(None), uuids: Mutex::new(None) }
    }

    pub(crate) fn task(&self, py: Python<'_>, operation: Operation, decode: Decode) -> PyResult<Task> {
        self.execution.check()?;
        self.execution.check_input(&operation)?;
        let node = self.execution.describe(operation, decode, boundary::origin::caller(py));
        Ok(Task::new(Arc::clone(&self.execution), node))
    }

    pub(crate) fn tasks(&self, arguments: &Bound<'_, PyTuple>) -> PyResult<Vec<Arc<Node>>> {
        self.execution.check()?;
        let tasks = collect(&self.execution, arguments)?;
        if tasks.iter().any(|task| task.depth > limits::MAX_DEPTH) {
            return Err(LimitExceeded::new_err(format!(
                "combinators nest at most {} levels deep: wait for some of the tasks first",
                limits::MAX_DEPTH
            )));
        }
        Ok(tasks)
    }

    #[expect(clippy::too_many_arguments, reason = "one argument a field of the operation")]
    pub(crate) fn activity(
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
        let (name, declared) = name.of_kind("activity")?;
        check_name("the name of the activity", &name)?;
        if name.starts_with("__duroxide_syscall:") {
            return Err(PyValueError::new_err(format!("the activity name '{name}' is reserved for the engine")));
        }
        if let Some(session_id) = &session_id {
            check_name("the session id", session_id)?;
        }
        if let Some(tag) = &tag {
            limits::check_tag(tag)?;
        }
        let retry = retry.map_or(Ok(None), RetryPolicy::from_python)?;
        let annotation = result_type.or(declared).or_else(|| self.execution.definitions.activity_result(py, &name));
        let waits_for_end = match cancellation.unwrap_or("abandon").parse()? {
            OnCancellation::Abandon => false,
            OnCancellation::Wait => true,
        };
        let input = payload(py, input)?;
        let call = ActivityCall { name, input, session_id, tag: Tag::new(tag), retry, waits_for_end };
        self.task(py, Operation::Activity(call), Decode::typed(annotation, Decode::Json))
    }

    pub(crate) fn system_activity(&self, py: Python<'_>, name: &str, decode: Decode) -> PyResult<Task> {
        let call = ActivityCall {
            name: format!("__duroxide_syscall:{name}"),
            input: String::new(),
            session_id: None,
            tag: Tag::default(),
            retry: None,
            waits_for_end: false,
        };
        self.task(py, Operation::Activity(call), decode)
    }

    #[expect(clippy::too_many_arguments, reason = "one argument a field of the operation")]
    pub(crate) fn sub_orchestration(
        &self,
        py: Python<'_>,
        name: FunctionName,
        input: Option<&Bound<'_, PyAny>>,
        instance_id: Option<String>,
        version: Option<String>,
        retry: Option<&Bound<'_, PyAny>>,
        result_type: Option<Py<PyAny>>,
    ) -> PyResult<Task> {
        let (name, declared) = name.of_kind("orchestration")?;
        check_name("the name of the sub-orchestration", &name)?;
        if let Some(instance_id) = &instance_id {
            check_instance_id(instance_id)?;
        }
        check_version(version.as_deref())?;
        let retry = retry.map_or(Ok(None), RetryPolicy::from_python)?;
        if let Some(policy) = &retry {
            check_retries_of_child(policy, instance_id.as_deref())?;
        }
        let annotation =
            result_type.or(declared).or_else(|| self.execution.definitions.orchestration_result(py, &name));
        let input = payload(py, input)?;
        let operation = Operation::SubOrchestration { name, version, instance_id, input, retry };
        self.task(py, operation, Decode::typed(annotation, Decode::Json))
    }

    pub(crate) fn trace(&self, level: &str, message: String) -> PyResult<()> {
        self.execution.check()?;
        if !self.execution.is_replaying() {
            self.execution.engine().trace(level, message);
        }
        Ok(())
    }

    pub(crate) fn stream<'py>(
        &self,
        py: Python<'py>,
        kept: &Mutex<Option<Py<PyAny>>>,
        name: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.execution.check()?;
        if let Some(stream) = kept.lock().as_ref() {
            return Ok(stream.bind(py).clone());
        }
        let Execution { instance, execution_id, started_ms, .. } = self.execution.as_ref();
        let seed = format!("{instance}\n{execution_id}\n{started_ms}\n{name}");
        let stream = RANDOM.call(py, (seed,))?;
        *kept.lock() = Some(stream.clone().unbind());
        Ok(stream)
    }
}

/// Refuses what a retry policy cannot do for a sub-orchestration.
fn check_retries_of_child(policy: &RetryPolicy, instance_id: Option<&str>) -> PyResult<()> {
    if policy.start_timeout.is_some() {
        return Err(ConfigurationError::new_err(
            "start_timeout limits the wait of an activity in the queue, and a sub-orchestration has no such wait; use \
             attempt_timeout or total_timeout",
        ));
    }
    // The id of the last attempt is the longest one.
    instance_id.map_or(Ok(()), |instance_id| check_instance_id(&id_of_attempt(instance_id, policy.max_attempts)))
}
