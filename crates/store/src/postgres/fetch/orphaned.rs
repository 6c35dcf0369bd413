//! Ends turns that have nothing to run, because all their messages are held back or belong to an instance that does not
//! exist.

use std::sync::Arc;

use crate::clock::span_ms;
use crate::flow_control::{MessageGate, ORPHAN_LIFETIME};
use crate::postgres::fetch::lease::LeaseRow;
use crate::postgres::node::held_turns::NodeTurn;
use crate::postgres::node::request::{TurnWrite, WriteRequest};
use crate::postgres::node::state::NodeState;
use crate::turn_commit::TurnCommit;

/// How long such a message is invisible at first. Later it is invisible for as long as it has waited already.
const ORPHANS_PAUSE_MS: i64 = 1_000;
const LONGEST_PAUSE_MS: i64 = 60_000;

/// Makes messages to an instance that does not exist invisible for a while. They come again until the instance exists
/// or they are too old.
pub fn hold_orphans(core: &Arc<NodeState>, lease: LeaseRow) {
    let mut read = lease.unreadable;
    let mut aside = Vec::new();
    let mut pause_ms = ORPHANS_PAUSE_MS;
    for message in lease.messages {
        if message.age_ms > span_ms(ORPHAN_LIFETIME) && !lease.starts_later {
            read.push(message.id);
        } else {
            pause_ms = pause_ms.max(message.age_ms.min(LONGEST_PAUSE_MS));
            aside.push(message);
        }
    }
    if !read.is_empty() {
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
    end_without_running(core, lease.token, held);
}

/// Ends a turn that has nothing to run.
pub fn end_without_running(core: &Arc<NodeState>, token: String, held: Arc<NodeTurn>) {
    let commit = TurnCommit { execution_id: u64::try_from(held.execution).unwrap_or(0), ..TurnCommit::default() };
    let write = TurnWrite { token, held, commit: Arc::new(commit), ran: false };
    core.submit_and_forget(WriteRequest::Turn(write));
}
