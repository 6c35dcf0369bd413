//! Where the stores do more than the engine's contract asks for. Every user's store is opened with
//! [`StorePolicy::SHIPPED`].
//!
//! The engine's conformance suite runs on the shipped policy too. A few of its functions expect that a store does less:
//! each runs on the policy that differs in the one field it needs (see `conformance.rs`).

/// What a store does beyond the engine's contract. It is given when the store is opened, and does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each field switches one thing, whatever the others say")]
pub struct StorePolicy {
    /// A turn gets only the messages that its code can take now; the store keeps the others, and drops messages to an
    /// instance that has ended.
    ///
    /// The engine drops an event that is raised before its wait, and fails a turn that reads too many messages of
    /// queues: see [`crate::flow_control`]. Without the gate, a turn gets every message that is visible.
    pub gate_messages: bool,
    /// A node that runs turns leases more work than its fetches wait for, so that a slot finds its next turn in memory:
    /// at most as much as it took in the last moments. PostgreSQL only.
    ///
    /// Without it, a node leases what a fetch waits for.
    pub prefetch: bool,
    /// A newer message does not overtake one that a turn gave back with a delay: both go to the next turn. SQLite only.
    ///
    /// The adapter gives a turn back when it cannot run it yet. An orchestration must still read its messages in the
    /// order in which they were sent. Without this, each delayed message waits for its time alone.
    pub keep_message_order: bool,
    /// Every look for activities finds those whose leases have ended, so that the next fetch has them. PostgreSQL only.
    ///
    /// Off for users, because a lease rarely ends before its activity, and the search would cost each look a second
    /// scan: only the slow look, about twice a second, searches for them. A node also does not take the activities again
    /// that it runs itself, and renews a lease that has ended if no other node has taken the activity: a server that is
    /// slow for a moment must not make an activity run twice.
    pub strict_leases: bool,
}

impl StorePolicy {
    /// What users run.
    pub const SHIPPED: Self =
        Self { gate_messages: true, prefetch: true, keep_message_order: true, strict_leases: false };
}
