//! Corrects a commit of the engine before the store gets it.

use std::collections::HashSet;

use duroxide::providers::WorkItem;
use duroxide::{Event, EventKind};
use store::history::{ended, started};
use store::turn_commit::TurnCommit;

use crate::cancellation;
use crate::held_turns::HeldTurn;
use store::parent_link::ParentLink;
use store::terminal_commit::{tell_parent, tells_parent};

/// Records the end of code that was asked to end as the cancellation that it is.
fn heed_cancellation(commit: &mut TurnCommit, held: &HeldTurn) {
    if let Some(end) = held.record.cancelled.get()
        && let Some(details) = cancellation::record_end(&mut commit.delta, end)
    {
        commit.metadata.status = Some("Failed".to_owned());
        commit.metadata.output = Some(cancellation::for_parent(details).display_message());
        // These report another end. `tell_waiting_parent` reports this one.
        commit
            .messages
            .retain(|message| !matches!(message, WorkItem::SubOrchCompleted { .. } | WorkItem::SubOrchFailed { .. }));
    }
    // Repeat the cancellation request for an execution that cannot observe it yet: a new one, or the next one after
    // continue-as-new.
    let is_deaf = started(&commit.delta).is_some() && !cancellation::is_subscribed(&commit.delta);
    if let Some(reason) = &held.cancellation
        && !ended(&commit.delta)
        && (is_deaf
            || continues_as_new(&commit.delta)
                && !held.record.has_received_cancellation()
                && !cancellation::is_carried(&commit.messages))
    {
        let instance = held.record.instance.clone();
        commit.messages.push(WorkItem::CancelInstance { instance, reason: reason.clone() });
    }
}

/// Corrects what the engine has made of the turn.
pub fn complete(commit: &mut TurnCommit, held: &HeldTurn) {
    stamp(&mut commit.delta, held.record.time_ms);
    heed_cancellation(commit, held);
    tell_waiting_parent(commit, held);
    commit.messages.extend(held.collisions.iter().cloned());
    forget_unborn_children(commit);
}

/// Whether it leaves the execution, which the turn ran, waiting for more.
pub fn leaves_suspended(commit: &TurnCommit, held: &HeldTurn) -> bool {
    commit.execution_id == held.record.execution_id && !ended(&commit.delta) && !continues_as_new(&commit.delta)
}

/// An orchestration that ends in the turn in which it schedules a child never starts the child, and yet cancels it. On
/// SQLite this message, to an instance that does not exist, would block all later ones.
fn forget_unborn_children(commit: &mut TurnCommit) {
    let TurnCommit { delta, messages, .. } = commit;
    let scheduled: HashSet<&str> = delta
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::SubOrchestrationScheduled { instance, .. } => Some(instance.as_str()),
            _ => None,
        })
        .collect();
    if scheduled.is_empty() {
        return;
    }
    let started: HashSet<String> = messages
        .iter()
        .filter_map(|message| match message {
            WorkItem::StartOrchestration { instance, .. } => Some(instance.clone()),
            _ => None,
        })
        .collect();
    messages.retain(|message| match message {
        WorkItem::CancelInstance { instance, .. } => {
            started.contains(instance) || !scheduled.contains(instance.as_str())
        }
        _ => true,
    });
}

/// A child that broke a limit ends without a message to its parent, since the engine clears its messages.
fn tell_waiting_parent(commit: &mut TurnCommit, held: &HeldTurn) {
    if commit.metadata.status.as_deref() != Some("Failed") {
        return;
    }
    let of_this_turn = started(&commit.delta).and_then(|event| ParentLink::of(&event.kind));
    let Some(parent) = of_this_turn.or_else(|| held.parent.clone()) else { return };
    let failure = commit.delta.iter().rev().find_map(|event| match &event.kind {
        EventKind::OrchestrationFailed { details } => Some(details.clone()),
        _ => None,
    });
    if let Some(details) = failure
        && !tells_parent(&commit.messages, &parent)
    {
        commit.messages.push(tell_parent(&parent, cancellation::for_parent(details)));
    }
}

fn continues_as_new(delta: &[Event]) -> bool {
    delta.iter().any(|event| matches!(event.kind, EventKind::OrchestrationContinuedAsNew { .. }))
}

/// Gives all events of a turn one time: the time that the turn itself has seen.
fn stamp(delta: &mut [Event], time_ms: u64) {
    for event in delta {
        event.timestamp_ms = time_ms;
        if let EventKind::KeyValueSet { last_updated_at_ms, .. } = &mut event.kind {
            *last_updated_at_ms = time_ms;
        }
    }
}
