//! Requests for the end of an orchestration, on their way to its code.
//!
//! The engine throws the turn away in which it cancels. An execution that wants to clean up first subscribes to a
//! reserved queue with its first action; from then on a request is a message of that queue, and the end that the code comes to
//! is recorded as the cancellation that was asked for.

use duroxide::providers::WorkItem;
use duroxide::{ErrorDetails, Event, EventKind};

use super::action::Action;
use super::ending::cancelled;

/// The queue whose messages are the reasons of requests.
pub const CANCELLATION_QUEUE: &str = "__duroxide_cancellation";

/// Whether the execution that `history` records hears of requests.
pub(super) fn is_heard(history: &[Event]) -> bool {
    let first = history.iter().find(|event| Action::recorded(&event.kind).is_some());
    first.is_some_and(|event| matches!(&event.kind, EventKind::QueueSubscribed { name } if name == CANCELLATION_QUEUE))
}

/// The reason of the first request among the messages of a turn, or among those that an execution carries over unread.
pub(super) fn requested(messages: &[WorkItem]) -> Option<&str> {
    messages.iter().find_map(|message| match message {
        WorkItem::CancelInstance { reason, .. } => Some(reason.as_str()),
        WorkItem::ContinueAsNew { carry_forward_events, .. } => carry_forward_events
            .iter()
            .find_map(|(queue, reason)| (queue == CANCELLATION_QUEUE).then_some(reason.as_str())),
        _ => None,
    })
}

/// Makes requests messages that the code hears.
pub(super) fn make_heard(messages: &mut [WorkItem]) {
    for message in messages {
        if let WorkItem::CancelInstance { instance, reason } = message {
            *message = WorkItem::QueueMessage {
                instance: std::mem::take(instance),
                name: CANCELLATION_QUEUE.to_owned(),
                data: std::mem::take(reason),
            };
        }
    }
}

/// Has an end of the code recorded as the cancellation for whose sake it came.
pub(super) fn record_end(delta: &mut [Event], reason: &str) -> Option<ErrorDetails> {
    let end = delta.iter_mut().find(|event| {
        matches!(event.kind, EventKind::OrchestrationCompleted { .. } | EventKind::OrchestrationFailed { .. })
    })?;
    let details = cancelled(reason);
    end.kind = EventKind::OrchestrationFailed { details: details.clone() };
    Some(details)
}
