//! Requests for the end of an orchestration, on their way to its code.
//!
//! The engine throws the turn away in which it cancels. An execution that wants to clean up first subscribes to a
//! reserved queue before it runs; from then on a request is a message of that queue, and the end that the code comes to
//! is recorded as the cancellation that was asked for.

use duroxide::providers::WorkItem;
use duroxide::{AppErrorKind, ErrorDetails, Event, EventKind};
use store::history::is_end;

/// The queue whose messages are the reasons of requests.
pub const CANCELLATION_QUEUE: &str = "__duroxide_cancellation";

/// Whether the execution that `history` records hears of requests.
pub fn is_heard(history: &[Event]) -> bool {
    history.iter().any(|event| matches!(&event.kind, EventKind::QueueSubscribed { name } if name == CANCELLATION_QUEUE))
}

/// The reason of the first request among the messages of a turn, or among those that an execution carries over unread.
pub fn requested(messages: &[WorkItem]) -> Option<&str> {
    messages.iter().find_map(|message| match message {
        WorkItem::CancelInstance { reason, .. } => Some(reason.as_str()),
        WorkItem::ContinueAsNew { carry_forward_events, .. } => carried(carry_forward_events),
        _ => None,
    })
}

/// The reason of the first request among the messages that an execution carries over unread.
fn carried(messages: &[(String, String)]) -> Option<&str> {
    messages.iter().find_map(|(queue, reason)| (queue == CANCELLATION_QUEUE).then_some(reason.as_str()))
}

/// Whether the messages of a turn begin an execution to which the engine carries a request over.
pub fn is_carried(messages: &[WorkItem]) -> bool {
    messages.iter().any(|message| match message {
        WorkItem::ContinueAsNew { carry_forward_events, .. } => carried(carry_forward_events).is_some(),
        _ => false,
    })
}

/// Has the code hear the requests among the messages of a turn.
///
/// An execution that began with a request, and continued as new without waiting to hear it, is followed by one that the
/// engine ends: no other would hear it either.
pub fn deliver(history: &[Event], messages: &mut Vec<WorkItem>) {
    let began_with_it = history.iter().any(|event| match &event.kind {
        EventKind::OrchestrationStarted { carry_forward_events: Some(events), .. } => carried(events).is_some(),
        _ => false,
    });
    if !began_with_it || !is_carried(messages) {
        return make_heard(messages);
    }
    let mut requests = Vec::new();
    for message in messages.iter_mut() {
        if let WorkItem::ContinueAsNew { instance, carry_forward_events, .. } = message {
            carry_forward_events.retain(|(queue, reason)| {
                let is_request = queue == CANCELLATION_QUEUE;
                if is_request {
                    requests.push(WorkItem::CancelInstance { instance: instance.clone(), reason: reason.clone() });
                }
                !is_request
            });
        }
    }
    messages.append(&mut requests);
}

/// Makes requests messages that the code hears.
fn make_heard(messages: &mut [WorkItem]) {
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
pub fn record_end(delta: &mut [Event], reason: &str) -> Option<ErrorDetails> {
    let end = delta.iter_mut().find(|event| is_end(&event.kind))?;
    let details = cancelled(reason);
    end.kind = EventKind::OrchestrationFailed { details: details.clone() };
    Some(details)
}

pub fn cancelled(reason: &str) -> ErrorDetails {
    ErrorDetails::Application {
        kind: AppErrorKind::Cancelled { reason: reason.to_owned() },
        message: String::new(),
        retryable: false,
    }
}
