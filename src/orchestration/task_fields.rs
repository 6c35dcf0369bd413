//! The fields of a task, by the names that they had in the earlier SDK, where a task was a dict.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::orchestration::arena::{READ_VALUE, read_value_input};
use crate::orchestration::operation::{ActivityCall, Node, Operation};
use crate::orchestration::retry_policy::RetryPolicy;

/// The fields of the task that describes `operation`; `task_of` makes the tasks of a combinator.
pub(crate) fn of<'py, T: IntoPyObject<'py>>(
    py: Python<'py>,
    operation: &Operation,
    task_of: impl Fn(&Arc<Node>) -> PyResult<T>,
) -> PyResult<Bound<'py, PyDict>> {
    let fields = Fields(PyDict::new(py));
    match operation {
        Operation::Activity(call) => fields.activity(call)?,
        Operation::SubOrchestration { name, version, instance_id, input, retry: policy } => {
            let versioned = if version.is_some() { "Versioned" } else { "" };
            let with_id = if instance_id.is_some() { "WithId" } else { "" };
            fields.set("type", format!("subOrchestration{versioned}{with_id}"))?;
            fields.start(name, version.as_deref(), instance_id.as_deref(), input)?;
            if let Some(policy) = policy {
                fields.set("retry", retry(py, policy)?)?;
            }
        }
        Operation::Wait { tasks, until } => {
            fields.set("type", "wait")?;
            fields.set("returnWhen", until.name())?;
            fields.set("tasks", tasks.iter().map(task_of).collect::<PyResult<Vec<T>>>()?)?;
        }
        Operation::Start { name, version, instance_id, input } => {
            fields.set("type", if version.is_some() { "orchestrationVersioned" } else { "orchestration" })?;
            fields.start(name, version.as_deref(), Some(instance_id), input)?;
        }
        Operation::Timer(delay) => {
            fields.set("type", "timer")?;
            fields.set("delayMs", milliseconds(*delay))?;
        }
        Operation::Event(name) => {
            fields.set("type", "waitEvent")?;
            fields.set("name", name)?;
        }
        Operation::Queue(name) => {
            fields.set("type", "dequeueEvent")?;
            fields.set("queueName", name)?;
        }
        Operation::InstanceValue { instance_id, key } => {
            fields.set("type", "activity")?;
            fields.set("name", READ_VALUE)?;
            fields.set("input", read_value_input(instance_id, key))?;
        }
        Operation::ContinueAsNew { version, input } => {
            fields.set("type", if version.is_some() { "continueAsNewVersioned" } else { "continueAsNew" })?;
            fields.set("input", input)?;
            fields.set_if_there("version", version.as_deref())?;
        }
        Operation::All(tasks) | Operation::Gather(tasks) | Operation::Race(tasks) => {
            fields.set("type", if matches!(operation, Operation::Race(_)) { "select" } else { "join" })?;
            fields.set("tasks", tasks.iter().map(task_of).collect::<PyResult<Vec<T>>>()?)?;
        }
        Operation::Branch(_) => fields.set("type", "branch")?,
    }
    Ok(fields.0)
}

struct Fields<'py>(Bound<'py, PyDict>);

impl<'py> Fields<'py> {
    fn set(&self, name: &str, value: impl IntoPyObject<'py>) -> PyResult<()> {
        self.0.set_item(name, value)
    }

    fn set_if_there(&self, name: &str, value: Option<&str>) -> PyResult<()> {
        value.map_or(Ok(()), |value| self.set(name, value))
    }

    fn activity(&self, call: &ActivityCall) -> PyResult<()> {
        match call.name.as_str() {
            "__duroxide_syscall:utc_now_ms" => return self.set("type", "utcNow"),
            "__duroxide_syscall:new_guid" => return self.set("type", "newGuid"),
            _ => {}
        }
        let kind = match (&call.retry, &call.session_id) {
            (None, None) => "activity",
            (None, Some(_)) => "activityWithSession",
            (Some(_), None) => "activityWithRetry",
            (Some(_), Some(_)) => "activityWithRetryOnSession",
        };
        self.set("type", kind)?;
        self.set("name", &call.name)?;
        self.set("input", &call.input)?;
        if let Some(policy) = &call.retry {
            self.set("retry", retry(self.0.py(), policy)?)?;
        }
        self.set_if_there("sessionId", call.session_id.as_deref())?;
        self.set_if_there("tag", call.tag.get().as_deref())
    }

    fn start(&self, name: &str, version: Option<&str>, instance_id: Option<&str>, input: &str) -> PyResult<()> {
        self.set("name", name)?;
        self.set_if_there("version", version)?;
        self.set_if_there("instanceId", instance_id)?;
        self.set("input", input)
    }
}

fn retry<'py>(py: Python<'py>, policy: &RetryPolicy) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("maxAttempts", policy.max_attempts)?;
    fields.set_item("timeoutMs", policy.attempt_timeout.map(milliseconds))?;
    fields.set_item("totalTimeoutMs", policy.total_timeout.map(milliseconds))?;
    fields.set_item("backoff", policy.backoff.kind())?;
    Ok(fields)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
