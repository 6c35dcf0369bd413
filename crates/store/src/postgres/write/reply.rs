//! Reads the server's answer to a commit: answers the callers, and delivers the leases that the commit granted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use duroxide::providers::WorkItem;
use sqlx::postgres::PgRow;

use crate::failure::Failure;
use crate::history::is_last;
use crate::postgres::errors::failed;
use crate::postgres::fetch::deliver::deliver;
use crate::postgres::fetch::lease::{LeaseRow, leases};
use crate::postgres::fetch::rows;
use crate::postgres::fetch::rows::AnswerRow;
use crate::postgres::node::history_cache::HistoryEntry;
use crate::postgres::node::request::{PendingWrite, TurnWrite, WriteRequest};
use crate::postgres::node::state::{LeasedActivity, NodeState};
use crate::postgres::write::batch::{Batch, Sizes};
use crate::postgres::write::eager::EagerLeases;
use crate::turn_commit::TurnCommit;
use crate::work_item::can_be_waited_for;

/// The server's answer to a commit, and the leases that the commit was to grant.
pub struct Committed {
    pub rows: Vec<PgRow>,
    pub eager: EagerLeases,
}

/// Answers all callers, and delivers the granted leases.
pub fn finish(
    core: &Arc<NodeState>,
    operations: Vec<PendingWrite>,
    batch: &Batch,
    sizes: &Sizes,
    committed: Committed,
) {
    let Committed { rows, eager } = committed;
    let reply = match CommitReply::of(&rows) {
        Ok(reply) => reply,
        Err(error) => {
            let error = failed("commit", &error);
            return operations.into_iter().for_each(|operation| operation.finish(Err(error.clone())));
        }
    };
    let leased: HashSet<&str> = reply.leases.iter().map(|lease| lease.instance.as_str()).collect();
    let (mut turn, mut activity, mut start) = (0, 0, 0);
    for operation in operations {
        let outcome = match &operation.request {
            WriteRequest::Turn(end) => {
                turn += 1;
                match reply.turns.get(&turn) {
                    Some(created_us) => {
                        turn_ended(core, end, *created_us, sizes[turn - 1], &leased);
                        Ok(None)
                    }
                    None => Err(Failure::lock_lost(
                        "ack_orchestration_item",
                        "Invalid lock token: the turn has ended, or its lock expired",
                    )),
                }
            }
            WriteRequest::Activity(_) => {
                activity += 1;
                if reply.activities.contains(&activity) {
                    Ok(None)
                } else {
                    Err(Failure::lock_lost(
                        "ack_work_item",
                        "the activity was cancelled, or its lock expired (Invalid lock token)",
                    ))
                }
            }
            WriteRequest::Start(_) => {
                start += 1;
                Ok(reply.starts.get(&start).cloned())
            }
            WriteRequest::Messages(..) | WriteRequest::CheckInstance(_) => Ok(None),
        };
        operation.finish(outcome);
    }
    deliver_leases(core, batch, eager, reply);
}

fn turn_ended(core: &Arc<NodeState>, write: &TurnWrite, created_us: Option<i64>, bytes: usize, leased: &HashSet<&str>) {
    let TurnWrite { token, held, commit, ran } = write;
    let TurnCommit { execution_id, delta, metadata, .. } = &**commit;
    let (instance, execution) = (held.instance.as_str(), i64::try_from(*execution_id).unwrap_or(i64::MAX));
    if *ran {
        if metadata.status.as_deref().is_some_and(is_last) {
            core.histories.forget(instance);
            core.known_messages.forget(instance);
        } else if held.execution == execution && held.length > 0 {
            core.histories.append(instance, execution, held.length, delta.clone(), bytes);
        } else if let Some(created_us) = created_us.or(held.created_us) {
            let history = HistoryEntry { created_us, execution, events: delta.clone(), bytes };
            core.histories.put(instance, history);
        }
    }
    if can_be_waited_for(metadata, delta) {
        core.notifier.announce_changed(instance);
    }
    // A message arrived while this node held the turn, and the commit of the turn may not have seen it.
    if core.held.remove(token) && !leased.contains(instance) {
        core.submit_and_forget(WriteRequest::CheckInstance(instance.to_owned()));
    }
}

/// Delivers the granted leases to their queues, and announces the rest of the new work to the other nodes.
fn deliver_leases(core: &Arc<NodeState>, batch: &Batch, eager: EagerLeases, reply: CommitReply) {
    let leased: HashSet<&str> = reply.leases.iter().map(|lease| lease.instance.as_str()).collect();
    let mut announces_turns = eager.leaves_turns;
    for (instance, is_sent) in batch.targets.iter().filter(|(instance, _)| !leased.contains(instance.as_str())) {
        // If this node holds a turn of the instance, the commit of that turn looks for new messages.
        if !is_sent || core.held.note_arrival(instance) {
            continue;
        }
        // Another node holds a turn of the instance, or a turn ended on this node just now without seeing the message.
        announces_turns = true;
        if eager.targets.contains(instance) {
            core.submit_and_forget(WriteRequest::CheckInstance(instance.clone()));
        }
    }
    if eager.leaves_turns {
        core.hint_turns();
    }
    if announces_turns {
        core.notifier.announce_turns();
    }
    if let Some(queue) = &eager.queue {
        deliver(core, queue, reply.leases);
    }
    let mut activities = eager.activities;
    for (token, id) in reply.scheduled {
        if let Some((queue, item)) = activities.remove(&token) {
            queue.offer(LeasedActivity { item, id, token, attempt: 1 });
        }
    }
    if eager.leaves_activities {
        core.hint_activities();
        core.notifier.announce_activities();
    }
    if let Some(delay_ms) = batch.first_delay() {
        core.due_in(delay_ms);
    }
    if !core.notifier.is_empty() {
        core.wanted.notify_one();
    }
}

/// The rows of the answer to a commit.
#[derive(Default)]
struct CommitReply {
    /// The committed turns, by their places, and when their instances were created.
    turns: HashMap<usize, Option<i64>>,
    /// The activities that ended, by their places.
    activities: HashSet<usize>,
    /// The orchestrations that run already where a start was not made, by the places of the starts.
    starts: HashMap<usize, String>,
    scheduled: Vec<(String, i64)>,
    leases: Vec<LeaseRow>,
}

impl CommitReply {
    fn of(rows: &[PgRow]) -> Result<Self, sqlx::Error> {
        let mut reply = Self::default();
        for row in rows.iter().map(AnswerRow) {
            let place = || row.id().map(|id| usize::try_from(id).unwrap_or(0));
            match row.kind()? {
                rows::TURN_ENDED => {
                    reply.turns.insert(place()?, row.stamp()?);
                }
                rows::ACTIVITY_ENDED => {
                    reply.activities.insert(place()?);
                }
                rows::START_FOUND => {
                    let waiting = row.item()?.and_then(|item| serde_json::from_str(&item).ok());
                    let name = row.name()?.or(match waiting {
                        Some(WorkItem::StartOrchestration { orchestration, .. }) => Some(orchestration),
                        _ => None,
                    });
                    reply.starts.insert(place()?, name.unwrap_or_default());
                }
                rows::SCHEDULED_ACTIVITY => {
                    if let Ok(token) = row.token() {
                        reply.scheduled.push((token, row.id()?));
                    }
                }
                _ => {}
            }
        }
        reply.leases = leases(rows)?;
        Ok(reply)
    }
}
