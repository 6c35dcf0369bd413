//! Endings that the engine does not bring about, or not as a parent can handle them.

use std::collections::HashSet;

use duroxide::providers::{ExecutionMetadata, ScheduledActivityIdentifier, WorkItem};
use duroxide::{
    AppErrorKind, ErrorDetails, Event, EventKind, INITIAL_EVENT_ID, INITIAL_EXECUTION_ID, build_child_instance_id,
};
use serde::Serialize;

use crate::history::started;
use crate::parent_link::ParentLink;
use crate::turn_commit::TurnCommit;

/// A commit that ends an instance without running its code.
#[derive(Default)]
pub struct TerminalCommit {
    commit: TurnCommit,
}

impl From<TerminalCommit> for TurnCommit {
    fn from(terminal: TerminalCommit) -> Self {
        terminal.commit
    }
}

/// A failure as it is recorded: one JSON object, in this order of keys.
#[derive(Serialize)]
struct FailureJson<'a> {
    r#type: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
}

fn record(failure: &FailureJson<'_>) -> String {
    serde_json::to_string(failure).unwrap_or_else(|_| failure.message.to_owned())
}

/// The failure of an instance that was cancelled.
pub fn cancelled(reason: &str) -> ErrorDetails {
    ErrorDetails::Application {
        kind: AppErrorKind::Cancelled { reason: reason.to_owned() },
        message: String::new(),
        retryable: false,
    }
}

/// A name that no runtime knows.
pub fn not_registered(kind: AppErrorKind, message: &str) -> ErrorDetails {
    let message = record(&FailureJson { r#type: "RegistrationError", message, retryable: Some(false) });
    ErrorDetails::Application { kind, message, retryable: false }
}

/// Makes a failure of the system one that the code of the parent can catch; `None` if it already is.
pub fn catchable(details: &ErrorDetails, kind: AppErrorKind) -> Option<ErrorDetails> {
    let name = match details {
        ErrorDetails::Application { .. } => return None,
        ErrorDetails::Poison { .. } => "PoisonMessageError",
        ErrorDetails::Infrastructure { .. } => "InfrastructureError",
        ErrorDetails::Configuration { .. } => "NondeterminismError",
    };
    let message = record(&FailureJson { r#type: name, message: &details.display_message(), retryable: None });
    Some(ErrorDetails::Application { kind, message, retryable: false })
}

pub fn make_catchable(message: &mut WorkItem) {
    let (details, kind) = match message {
        WorkItem::ActivityFailed { details, .. } => (details, AppErrorKind::ActivityFailed),
        WorkItem::SubOrchFailed { details, .. } => (details, AppErrorKind::OrchestrationFailed),
        _ => return,
    };
    if let Some(caught) = catchable(details, kind) {
        *details = caught;
    }
}

pub fn tell_parent(parent: &ParentLink, details: ErrorDetails) -> WorkItem {
    WorkItem::SubOrchFailed {
        parent_instance: parent.instance.clone(),
        // Links recorded before the engine stamped them have none.
        parent_execution_id: parent.execution_id.unwrap_or(INITIAL_EXECUTION_ID),
        parent_id: parent.event_id,
        details,
    }
}

/// The engine drops the message to the parent when a child breaks a limit.
pub fn tells_parent(messages: &[WorkItem], parent: &ParentLink) -> bool {
    messages.iter().any(|message| match message {
        WorkItem::SubOrchCompleted { parent_instance, parent_id, .. }
        | WorkItem::SubOrchFailed { parent_instance, parent_id, .. } => {
            *parent_instance == parent.instance && *parent_id == parent.event_id
        }
        _ => false,
    })
}

impl TerminalCommit {
    fn of_execution(execution_id: u64) -> Self {
        Self { commit: TurnCommit { execution_id, ..TurnCommit::default() } }
    }

    fn push(&mut self, instance: &str, source: Option<u64>, id: u64, kind: EventKind) {
        self.commit.delta.push(Event::with_event_id(id, instance, self.commit.execution_id, source, kind));
    }

    fn fail(&mut self, instance: &str, id: u64, details: ErrorDetails, parent: Option<&ParentLink>) {
        self.commit.metadata.status = Some("Failed".to_owned());
        self.commit.metadata.output = Some(details.display_message());
        self.push(instance, None, id, EventKind::OrchestrationFailed { details: details.clone() });
        self.commit.messages.extend(parent.map(|parent| tell_parent(parent, details)));
    }

    /// Ends an execution that has no history, with what its start says of it.
    pub fn of_start(instance: &str, execution_id: u64, start: &WorkItem, details: ErrorDetails) -> Option<Self> {
        let mut terminal = Self::of_execution(execution_id);
        let kind = started_by(start)?;
        let parent = ParentLink::of(&kind);
        if let EventKind::OrchestrationStarted { name, version, parent_instance, .. } = &kind {
            let metadata = &mut terminal.commit.metadata;
            metadata.orchestration_name = Some(name.clone());
            metadata.orchestration_version = Some(version.clone());
            metadata.parent_instance_id.clone_from(parent_instance);
        }
        let mut id = INITIAL_EVENT_ID;
        terminal.push(instance, None, id, kind);
        // As the engine does: the version of the runtime that began the execution.
        terminal.commit.metadata.pinned_duroxide_version =
            terminal.commit.delta.first().and_then(|event| semver::Version::parse(&event.duroxide_version).ok());
        if let ErrorDetails::Application { kind: AppErrorKind::Cancelled { reason }, .. } = &details {
            id += 1;
            terminal.push(instance, None, id, EventKind::OrchestrationCancelRequested { reason: reason.clone() });
        }
        terminal.fail(instance, id + 1, details, parent.as_ref());
        Some(terminal)
    }

    /// Fails an execution whose first turn cannot be recorded: its start is recorded, and nothing that its code did. `None`
    /// if `refused` is no first turn.
    pub fn of_first_turn(instance: &str, refused: &TurnCommit, details: ErrorDetails) -> Option<Self> {
        let mut terminal = Self::of_execution(refused.execution_id);
        let start = started(&refused.delta)?;
        let parent = ParentLink::of(&start.kind);
        terminal.commit.metadata = ExecutionMetadata {
            orchestration_name: refused.metadata.orchestration_name.clone(),
            orchestration_version: refused.metadata.orchestration_version.clone(),
            parent_instance_id: refused.metadata.parent_instance_id.clone(),
            pinned_duroxide_version: refused.metadata.pinned_duroxide_version.clone(),
            ..ExecutionMetadata::default()
        };
        terminal.push(instance, None, start.event_id, start.kind.clone());
        terminal.fail(instance, start.event_id + 1, details, parent.as_ref());
        Some(terminal)
    }

    /// Cancels an execution whose code cannot be run.
    pub fn of_cancellation(
        instance: &str,
        execution_id: u64,
        history: &[Event],
        reason: &str,
        parent: Option<&ParentLink>,
    ) -> Self {
        let mut terminal = Self::of_execution(execution_id);
        terminal.request_cancellation(instance, history, reason);
        terminal.cancel_work(instance, history, true);
        terminal.fail(instance, terminal.next(last(history)), cancelled(reason), parent);
        terminal
    }

    /// Terminates an execution. Its children are the business of the caller.
    pub fn of_termination(instance: &str, execution_id: u64, history: &[Event], details: ErrorDetails) -> Self {
        let mut terminal = Self::of_execution(execution_id);
        if let ErrorDetails::Application { kind: AppErrorKind::Cancelled { reason }, .. } = &details {
            terminal.request_cancellation(instance, history, reason);
        }
        terminal.cancel_work(instance, history, false);
        let parent = started(history).and_then(|event| ParentLink::of(&event.kind));
        terminal.fail(instance, terminal.next(last(history)), details, parent.as_ref());
        terminal
    }

    fn request_cancellation(&mut self, instance: &str, history: &[Event], reason: &str) {
        let requested = EventKind::OrchestrationCancelRequested { reason: reason.to_owned() };
        self.push(instance, None, self.next(last(history)), requested);
    }

    /// Fails an execution whose code does not fit its history. Its children go on, as they do after every failure.
    pub fn of_failure(
        instance: &str,
        execution_id: u64,
        history: &[Event],
        details: ErrorDetails,
        parent: Option<&ParentLink>,
    ) -> Self {
        let mut terminal = Self::of_execution(execution_id);
        terminal.cancel_work(instance, history, false);
        terminal.fail(instance, terminal.next(last(history)), details, parent);
        terminal
    }

    /// The id of the next event; `last` is the one of history.
    fn next(&self, last: u64) -> u64 {
        self.commit.delta.last().map_or(last, |event| event.event_id) + 1
    }

    /// Cancels what is under way.
    fn cancel_work(&mut self, instance: &str, history: &[Event], with_children: bool) {
        let last = last(history);
        let resolved: HashSet<u64> =
            history.iter().filter(|event| resolves(event)).filter_map(|event| event.source_event_id).collect();
        for event in history.iter().filter(|event| !resolved.contains(&event.event_id)) {
            match &event.kind {
                EventKind::ActivityScheduled { .. } => {
                    let cancelled =
                        EventKind::ActivityCancelRequested { reason: "orchestration_terminal_failed".to_owned() };
                    self.push(instance, Some(event.event_id), self.next(last), cancelled);
                    self.commit.cancelled.push(ScheduledActivityIdentifier {
                        instance: instance.to_owned(),
                        execution_id: self.commit.execution_id,
                        activity_id: event.event_id,
                    });
                }
                EventKind::SubOrchestrationScheduled { instance: child, .. } if with_children => {
                    self.commit.messages.push(WorkItem::CancelInstance {
                        instance: build_child_instance_id(instance, child),
                        reason: "parent canceled".to_owned(),
                    });
                }
                _ => {}
            }
        }
    }
}

fn last(history: &[Event]) -> u64 {
    history.iter().map(|event| event.event_id).max().unwrap_or(0)
}

fn resolves(event: &Event) -> bool {
    matches!(
        event.kind,
        EventKind::ActivityCompleted { .. }
            | EventKind::ActivityFailed { .. }
            | EventKind::ActivityCancelRequested { .. }
            | EventKind::SubOrchestrationCompleted { .. }
            | EventKind::SubOrchestrationFailed { .. }
            | EventKind::SubOrchestrationCancelRequested { .. }
    )
}

/// The first event of the execution that `start` begins.
fn started_by(start: &WorkItem) -> Option<EventKind> {
    let (carried, custom_status) = match start {
        WorkItem::StartOrchestration { .. } => (None, None),
        WorkItem::ContinueAsNew { carry_forward_events, initial_custom_status, .. } => {
            let carried = Some(carry_forward_events.clone()).filter(|events| !events.is_empty());
            (carried, initial_custom_status.clone())
        }
        _ => return None,
    };
    let (WorkItem::StartOrchestration {
        orchestration,
        input,
        version,
        parent_instance,
        parent_id,
        parent_execution_id,
        ..
    }
    | WorkItem::ContinueAsNew {
        orchestration,
        input,
        version,
        parent_instance,
        parent_id,
        parent_execution_id,
        ..
    }) = start
    else {
        return None;
    };
    Some(EventKind::OrchestrationStarted {
        name: orchestration.clone(),
        // The engine writes this for an unknown version, and reads it as none.
        version: version.clone().unwrap_or_else(|| "0.0.0".to_owned()),
        input: input.clone(),
        parent_instance: parent_instance.clone(),
        parent_id: *parent_id,
        parent_execution_id: *parent_execution_id,
        carry_forward_events: carried,
        initial_custom_status: custom_status,
    })
}
