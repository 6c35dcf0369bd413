//! Ends turns that have nothing to run, because all their messages are held back or belong to an instance that does not
//! exist.

use std::sync::Arc;
use std::time::Duration;

use duroxide::providers::{ExecutionMetadata, WorkItem};

use crate::clock::now_ms;
use crate::flow_control::MessageGate;
use crate::postgres::fetch::lease::LeaseRow;
use crate::postgres::node::held_turns::NodeTurn;
use crate::postgres::node::request::{TurnEnd, WriteRequest};
use crate::postgres::node::state::NodeState;

/// How long the store keeps a message to an instance that does not exist.
const ORPHANS_LIFE_MS: i64 = 10 * 60 * 1000;
/// How long such a message is invisible at first. Later it is invisible for as long as it has waited already.
const ORPHANS_PAUSE_MS: i64 = 1_000;
const LONGEST_PAUSE_MS: i64 = 60_000;

/// Makes messages to an instance that does not exist invisible for a while. They come again until the instance exists
/// or they are too old.
pub fn hold_orphans(core: &Arc<NodeState>, lease: LeaseRow) {
    let now = i64::try_from(now_ms()).unwrap_or(i64::MAX);
    let mut read = lease.unreadable;
    let mut aside = Vec::new();
    let mut pause_ms = ORPHANS_PAUSE_MS;
    // The engine's contract wants messages of queues dropped if their instance does not exist.
    let are_dropped = core.is_bare && lease.messages.iter().all(|m| matches!(m.item, WorkItem::QueueMessage { .. }));
    for message in lease.messages {
        let age = now.saturating_sub(message.sent_ms);
        if are_dropped || age > ORPHANS_LIFE_MS {
            read.push(message.id);
        } else {
            pause_ms = pause_ms.max(age.min(LONGEST_PAUSE_MS));
            aside.push(message);
        }
    }
    if !read.is_empty() && !core.is_bare {
        let instance = &lease.instance;
        let count = read.len();
        tracing::warn!(
            target: "duroxide::store",
            instance,
            "{count} messages to an instance that does not exist are dropped"
        );
    }
    let held = NodeTurn {
        read,
        held_back: Some((MessageGate::default(), aside)),
        orphan_pause_ms: Some(pause_ms),
        ..NodeTurn::of(lease.instance)
    };
    let held = core.held.insert(&lease.token, held);
    let is_kept = held.held_back.as_ref().is_some_and(|(_, messages)| !messages.is_empty());
    if core.is_bare && is_kept {
        let (core, token) = (Arc::clone(core), lease.token);
        tokio::spawn(async move {
            let _ = core.give_back_turn(&token, Some(Duration::from_millis(100)), false).await;
        });
        return;
    }
    end_without_running(core, lease.token, held);
}

/// Ends a turn that has nothing to run.
pub fn end_without_running(core: &Arc<NodeState>, token: String, held: Arc<NodeTurn>) {
    let end = TurnEnd {
        token,
        execution: u64::try_from(held.execution).unwrap_or(0),
        held,
        delta: Vec::new(),
        activities: Vec::new(),
        messages: Vec::new(),
        metadata: ExecutionMetadata::default(),
        cancelled: Vec::new(),
        ran: false,
    };
    core.submit_and_forget(WriteRequest::Turn(Box::new(end)));
}
