//! What a recorded history says: where an execution began, whether it has ended, and the names of its events.

use duroxide::{Event, EventKind};

/// The event that began the execution which `history` records.
pub fn started(history: &[Event]) -> Option<&Event> {
    history.iter().find(|event| matches!(event.kind, EventKind::OrchestrationStarted { .. }))
}

/// Whether the execution that `history` records has ended for good.
pub fn ended(history: &[Event]) -> bool {
    // The end is among the last events.
    history.iter().rev().any(|event| is_end(&event.kind))
}

/// Whether an event of this kind ends an instance.
pub fn is_end(kind: &EventKind) -> bool {
    matches!(kind, EventKind::OrchestrationCompleted { .. } | EventKind::OrchestrationFailed { .. })
}

/// Whether an execution of this status is the last one of its instance.
pub fn is_last(status: &str) -> bool {
    matches!(status, "Completed" | "Failed")
}

/// The name of a kind of event, as the engine's documents use it and as PostgreSQL's column has it. The recorded JSON
/// tags some kinds with an older name.
pub fn event_kind_name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::OrchestrationStarted { .. } => "OrchestrationStarted",
        EventKind::OrchestrationCompleted { .. } => "OrchestrationCompleted",
        EventKind::OrchestrationFailed { .. } => "OrchestrationFailed",
        EventKind::OrchestrationContinuedAsNew { .. } => "OrchestrationContinuedAsNew",
        EventKind::OrchestrationCancelRequested { .. } => "OrchestrationCancelRequested",
        EventKind::OrchestrationChained { .. } => "OrchestrationChained",
        EventKind::ActivityScheduled { .. } => "ActivityScheduled",
        EventKind::ActivityCompleted { .. } => "ActivityCompleted",
        EventKind::ActivityFailed { .. } => "ActivityFailed",
        EventKind::ActivityCancelRequested { .. } => "ActivityCancelRequested",
        EventKind::TimerCreated { .. } => "TimerCreated",
        EventKind::TimerFired { .. } => "TimerFired",
        EventKind::ExternalSubscribed { .. } => "ExternalSubscribed",
        EventKind::ExternalEvent { .. } => "ExternalEvent",
        EventKind::ExternalSubscribedCancelled { .. } => "ExternalSubscribedCancelled",
        EventKind::QueueSubscribed { .. } => "QueueSubscribed",
        EventKind::QueueEventDelivered { .. } => "QueueEventDelivered",
        EventKind::QueueSubscriptionCancelled { .. } => "QueueSubscriptionCancelled",
        EventKind::SubOrchestrationScheduled { .. } => "SubOrchestrationScheduled",
        EventKind::SubOrchestrationCompleted { .. } => "SubOrchestrationCompleted",
        EventKind::SubOrchestrationFailed { .. } => "SubOrchestrationFailed",
        EventKind::SubOrchestrationCancelRequested { .. } => "SubOrchestrationCancelRequested",
        EventKind::CustomStatusUpdated { .. } => "CustomStatusUpdated",
        EventKind::KeyValueSet { .. } => "KeyValueSet",
        EventKind::KeyValueCleared { .. } => "KeyValueCleared",
        EventKind::KeyValuesCleared => "KeyValuesCleared",
    }
}

#[cfg(test)]
mod tests {
    use duroxide::{AppErrorKind, ErrorDetails};
    use serde_json::{Value, json};

    use super::*;

    /// An event of every kind. The engine lists the tags of its kinds when it reads an unknown one.
    fn kinds() -> Vec<EventKind> {
        let unknown = serde_json::from_value::<EventKind>(json!({ "type": "?" })).unwrap_err().to_string();
        let details = ErrorDetails::Application {
            kind: AppErrorKind::OrchestrationFailed,
            message: "Broken: {}".to_owned(),
            retryable: false,
        };
        let mut fields = json!({ "details": details, "fire_at_ms": 1, "status": null });
        for name in ["name", "version", "input", "output", "result", "reason", "data", "instance", "key", "value"] {
            fields[name] = Value::from("TimerFired (\"x\")");
        }
        let kind = |tag| {
            fields["type"] = Value::from(tag);
            serde_json::from_value(fields.clone()).unwrap()
        };
        unknown.split('`').skip(3).step_by(2).map(kind).collect()
    }

    #[test]
    fn the_name_of_a_kind_is_that_of_its_variant() {
        let kinds = kinds();
        assert_eq!(kinds.len(), 26);
        for kind in kinds {
            let variant = format!("{kind:?}");
            assert_eq!(event_kind_name(&kind), variant.split([' ', '{']).next().unwrap());
        }
    }

    #[test]
    fn an_execution_has_ended_whatever_follows_its_end() {
        let event = |id: u64, kind| Event::with_event_id(id, "instance", 1, None, kind);
        let mut history = vec![event(1, EventKind::TimerCreated { fire_at_ms: 1 })];
        assert!(!ended(&history));

        history.push(event(2, EventKind::OrchestrationCompleted { output: String::new() }));
        assert!(ended(&history));

        let cancelled = EventKind::ActivityCancelRequested { reason: String::new() };
        history.extend((3..9).map(|id| event(id, cancelled.clone())));
        assert!(ended(&history));
    }
}
