//! Passes requests to cancel an orchestration to its code.
//!
//! The engine discards the turn in which it cancels an orchestration. An execution that wants to clean up first
//! subscribes to a reserved queue before its code runs. From then on the adapter turns a request into a message of that
//! queue, and records the end of the code as the requested cancellation.

use duroxide::providers::WorkItem;
use duroxide::{AppErrorKind, ErrorDetails, Event, EventKind};
use serde_json::Value;
use store::history::is_end;
use store::terminal_commit::cancelled;

/// The reserved queue. Each message is the reason of a request.
pub const CANCELLATION_QUEUE: &str = "__duroxide_cancellation";

/// The reserved queue to which an execution subscribes to ask its activity with this key to end. Unlike the engine's
/// cancellation, the request leaves the activity its lease, and so its end is recorded.
pub fn end_request(key: u64) -> String {
    format!("{CANCELLATION_QUEUE}:{key}")
}

/// The keys of the activities that these events ask to end.
pub fn activities_asked_to_end(events: &[Event]) -> impl Iterator<Item = u64> {
    events.iter().filter_map(|event| match &event.kind {
        EventKind::QueueSubscribed { name } => name.strip_prefix(CANCELLATION_QUEUE)?.strip_prefix(':')?.parse().ok(),
        _ => None,
    })
}

/// The failure of an activity that was asked to end before it began.
pub fn ended_before_it_began() -> ErrorDetails {
    ErrorDetails::Application {
        kind: AppErrorKind::ActivityFailed,
        message: r#"{"type": "CancelledError", "message": "it was cancelled before it began", "retryable": false}"#
            .to_owned(),
        retryable: false,
    }
}

/// Whether the execution that `history` records has subscribed to the reserved queue.
pub fn is_subscribed(history: &[Event]) -> bool {
    history.iter().any(|event| matches!(&event.kind, EventKind::QueueSubscribed { name } if name == CANCELLATION_QUEUE))
}

/// The reason of the first request among the messages of a turn, and among the messages that an execution carries over
/// unread.
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

/// Whether the messages of a turn begin an execution that gets a request carried over.
pub fn is_carried(messages: &[WorkItem]) -> bool {
    messages.iter().any(|message| match message {
        WorkItem::ContinueAsNew { carry_forward_events, .. } => carried(carry_forward_events).is_some(),
        _ => false,
    })
}

/// Turns the requests among the messages of a turn into messages of the reserved queue.
///
/// If an execution began with a request and continued as new without reading it, the next one would not read it either.
/// So the request stays a request, and the engine ends the next execution.
pub fn deliver(history: &[Event], messages: &mut Vec<WorkItem>) {
    let began_with_request = history.iter().any(|event| match &event.kind {
        EventKind::OrchestrationStarted { carry_forward_events: Some(events), .. } => carried(events).is_some(),
        _ => false,
    });
    if !began_with_request || !is_carried(messages) {
        return make_queue_messages(messages);
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

/// Replaces each request by a message of the reserved queue.
fn make_queue_messages(messages: &mut [WorkItem]) {
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

/// The end of code that was asked to end.
pub struct CancelledEnd {
    /// The reason of the request.
    pub reason: String,
    /// The recorded form of the failure with which the code ended; `None` if the code cleaned up.
    pub cleanup_failure: Option<String>,
}

/// Records the end of the code as the cancellation that it follows.
pub fn record_end(delta: &mut [Event], end_of_code: &CancelledEnd) -> Option<ErrorDetails> {
    let end = delta.iter_mut().find(|event| is_end(&event.kind))?;
    let mut details = cancelled(&end_of_code.reason);
    if let (ErrorDetails::Application { message, .. }, Some(failure)) = (&mut details, &end_of_code.cleanup_failure) {
        message.clone_from(failure);
    }
    end.kind = EventKind::OrchestrationFailed { details: details.clone() };
    Some(details)
}

/// A cancellation as a parent receives it: a parent gets the reason alone, so the failure of the clean-up becomes a part
/// of it.
pub fn for_parent(details: ErrorDetails) -> ErrorDetails {
    match &details {
        ErrorDetails::Application { kind: AppErrorKind::Cancelled { reason }, message, .. } if !message.is_empty() => {
            cancelled(&format!("{reason}; its clean-up failed: {}", describe(message)))
        }
        _ => details,
    }
}

/// A recorded failure in one line.
fn describe(recorded: &str) -> String {
    let value: Value = serde_json::from_str(recorded).unwrap_or_default();
    match (value["type"].as_str(), value["message"].as_str()) {
        (Some(class), Some("")) => class.to_owned(),
        (Some(class), Some(message)) => format!("{class}: {message}"),
        _ => recorded.to_owned(),
    }
}
