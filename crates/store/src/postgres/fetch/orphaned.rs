//! Turns that have nothing to run: messages to instances that do not exist, and such as nobody can be told yet.

use std::sync::Arc;

use duroxide::providers::ExecutionMetadata;

use crate::clock::{now_ms, span_ms};
use crate::flow_control::{MessageGate, ORPHANS_LIFE};
use crate::postgres::fetch::lease::LeaseRow;
use crate::postgres::node::held_turns::NodeTurn;
use crate::postgres::node::request::{TurnEnd, WriteRequest};
use crate::postgres::node::state::NodeState;

/// For how long such a message is out of sight at first; then as long as it has waited.
const ORPHANS_PAUSE_MS: i64 = 1_000;
const LONGEST_PAUSE_MS: i64 = 60_000;

/// Messages to an instance that does not exist: they stay out of sight and come again now and then, until it does, or until
/// they are too old.
pub fn set_orphans_aside(core: &Arc<NodeState>, lease: LeaseRow) {
    let now = i64::try_from(now_ms()).unwrap_or(i64::MAX);
    let mut read = lease.unreadable;
    let mut aside = Vec::new();
    let mut pause_ms = ORPHANS_PAUSE_MS;
    for message in lease.messages {
        let age = now.saturating_sub(message.sent_ms);
        if age > span_ms(ORPHANS_LIFE) {
            read.push(message.id);
        } else {
            pause_ms = pause_ms.max(age.min(LONGEST_PAUSE_MS));
            aside.push(message);
        }
    }
    if !read.is_empty() {
        let instance = &lease.instance;
        tracing::warn!(target: "duroxide::store", instance, "{} messages to an instance that does not exist are dropped", read.len());
    }
    let held = NodeTurn {
        read,
        kept_back: Some((MessageGate::default(), aside)),
        orphaned_ms: Some(pause_ms),
        ..NodeTurn::of(lease.instance)
    };
    let held = core.held.insert(&lease.token, held);
    settle(core, lease.token, held);
}

/// Ends a turn that has nothing to run.
pub fn settle(core: &Arc<NodeState>, token: String, held: Arc<NodeTurn>) {
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
