//! What the operations of a client answer: one class for each answer, with named fields that Python reads.

use std::collections::BTreeMap;

use duroxide::providers::{DeleteInstanceResult, PruneResult, QueueDepths, SystemMetrics};
use duroxide::{Event, INITIAL_EXECUTION_ID, SystemStats};
use engine_adapter::AttemptHeader;
use pyo3::prelude::*;
use serde_json::Value;

use store::history::event_kind_name;

/// Numbers by the name of the field of Python's record.
pub(super) type Fields<T = u64> = BTreeMap<&'static str, T>;

#[pyclass(frozen, get_all, module = "duroxide._native")]
pub(crate) struct StatusRecord {
    pub(super) status: &'static str,
    pub(super) output: Option<String>,
    pub(super) failure: Option<String>,
    pub(super) cancel_reason: Option<String>,
    /// The recorded failure of the clean-up after a cancellation.
    pub(super) cleanup_failure: Option<String>,
    /// The output of a termination, empty if it has none; `None` unless the instance was terminated.
    pub(super) termination: Option<String>,
    pub(super) custom_status: Option<String>,
    /// How often the custom status was set.
    pub(super) custom_status_version: u64,
    pub(super) mismatch: Option<String>,
}

#[pyclass(frozen, get_all, module = "duroxide._native")]
pub(crate) struct InstanceRecord {
    pub(super) instance_id: String,
    pub(super) orchestration_name: String,
    pub(super) orchestration_version: String,
    pub(super) current_execution_id: u64,
    pub(super) status: String,
    pub(super) output: Option<String>,
    pub(super) created_at: u64,
    pub(super) updated_at: u64,
    pub(super) parent_instance_id: Option<String>,
    pub(super) has_begun: bool,
}

#[pyclass(frozen, get_all, module = "duroxide._native")]
pub(crate) struct ExecutionRecord {
    pub(super) execution_id: u64,
    pub(super) status: String,
    pub(super) output: Option<String>,
    pub(super) started_at: u64,
    pub(super) completed_at: Option<u64>,
    pub(super) event_count: usize,
}

impl ExecutionRecord {
    /// The first execution of an instance whose start waits since `requested_ms`.
    pub(super) fn expected(requested_ms: u64) -> Self {
        Self {
            execution_id: INITIAL_EXECUTION_ID,
            status: "Running".to_owned(),
            output: None,
            started_at: requested_ms,
            completed_at: None,
            event_count: 0,
        }
    }
}

#[pyclass(frozen, get_all, module = "duroxide._native")]
pub(crate) struct EventRecord {
    event_id: u64,
    source_event_id: Option<u64>,
    kind: &'static str,
    timestamp_ms: u64,
    /// JSON text of the fields of the kind.
    data: String,
    execution_id: u64,
}

impl From<Event> for EventRecord {
    fn from(event: Event) -> Self {
        let Event { event_id, source_event_id, timestamp_ms, execution_id, kind, .. } = event;
        let name = event_kind_name(&kind);
        // A kind is plain data, which can always be written as JSON.
        let mut data = serde_json::to_value(kind).unwrap_or_default();
        if let Value::Object(fields) = &mut data {
            fields.remove("type");
        }
        Self { event_id, source_event_id, kind: name, timestamp_ms, data: data.to_string(), execution_id }
    }
}

/// The root of a tree of instances, and all instances of the tree with the root first.
#[pyclass(frozen, get_all, module = "duroxide._native")]
pub(crate) struct TreeRecord {
    pub(super) root_id: String,
    pub(super) all_ids: Vec<String>,
}

pub(super) fn stats(stats: &SystemStats) -> Fields {
    BTreeMap::from([
        ("history_event_count", stats.history_event_count),
        ("history_size_bytes", stats.history_size_bytes),
        ("queue_pending_count", stats.queue_pending_count),
        ("kv_user_key_count", stats.kv_user_key_count),
        ("kv_total_value_bytes", stats.kv_total_value_bytes),
    ])
}

pub(super) fn system_metrics(metrics: &SystemMetrics) -> Fields {
    BTreeMap::from([
        ("total_instances", metrics.total_instances),
        ("total_executions", metrics.total_executions),
        ("running_instances", metrics.running_instances),
        ("completed_instances", metrics.completed_instances),
        ("failed_instances", metrics.failed_instances),
        ("total_events", metrics.total_events),
    ])
}

pub(super) fn queue_depths(depths: &QueueDepths) -> Fields<usize> {
    BTreeMap::from([
        ("orchestrator_queue", depths.orchestrator_queue),
        ("worker_queue", depths.worker_queue),
        ("timer_queue", depths.timer_queue),
    ])
}

pub(super) fn deleted(result: &DeleteInstanceResult) -> Fields {
    BTreeMap::from([
        ("instances_deleted", result.instances_deleted),
        ("executions_deleted", result.executions_deleted),
        ("events_deleted", result.events_deleted),
        ("queue_messages_deleted", result.queue_messages_deleted),
    ])
}

pub(super) fn pruned(result: &PruneResult) -> Fields {
    BTreeMap::from([
        ("instances_processed", result.instances_processed),
        ("executions_deleted", result.executions_deleted),
        ("events_deleted", result.events_deleted),
    ])
}

/// The input of an activity without the header that is recorded in front of it.
#[pyfunction]
pub(crate) fn without_attempt_header(recorded: &str) -> &str {
    AttemptHeader::split(recorded).1
}

#[cfg(test)]
mod tests {
    use duroxide::EventKind;

    use super::*;

    #[test]
    fn event_of_a_queue_has_the_name_of_its_variant_and_no_tag_in_its_data() {
        let kind = EventKind::QueueEventDelivered { name: "inbox".to_owned(), data: "hi".to_owned() };

        let record = EventRecord::from(Event::with_event_id(7, "i", 2, None, kind));

        assert_eq!((record.event_id, record.kind, record.execution_id), (7, "QueueEventDelivered", 2));
        assert_eq!(record.data, r#"{"data":"hi","name":"inbox"}"#);
    }
}
