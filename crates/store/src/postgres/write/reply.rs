//! After a commit: everybody is answered, and what was taken with it is handed over.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use duroxide::providers::{ProviderError, WorkItem};
use sqlx::postgres::PgRow;

use crate::history::is_last;
use crate::postgres::errors::failed;
use crate::postgres::fetch::deliver::deliver;
use crate::postgres::fetch::lease::{LeaseRow, leases};
use crate::postgres::fetch::rows;
use crate::postgres::fetch::rows::AnswerRow;
use crate::postgres::node::history_cache::History;
use crate::postgres::node::request::{PendingWrite, TurnEnd, WriteRequest};
use crate::postgres::node::state::{LeasedActivity, NodeState};
use crate::postgres::write::batch::{Batch, Sizes};
use crate::postgres::write::eager::EagerLeases;
use crate::work_item::can_be_waited_for;

/// What one commit was answered.
pub struct Committed {
    pub rows: Vec<PgRow>,
    pub taken: EagerLeases,
}

/// Answers everybody, and hands over what was taken.
pub fn finish(
    core: &Arc<NodeState>,
    operations: Vec<PendingWrite>,
    batch: &Batch,
    sizes: &Sizes,
    committed: Committed,
) {
    let Committed { rows, taken } = committed;
    let read = match Reading::of(&rows) {
        Ok(read) => read,
        Err(error) => {
            let error = failed("commit", &error);
            return operations.into_iter().for_each(|operation| operation.finish(Err(error.clone())));
        }
    };
    let leased: HashSet<&str> = read.leases.iter().map(|lease| lease.instance.as_str()).collect();
    let (mut turn, mut start) = (0, 0);
    for operation in operations {
        let outcome = match &operation.work {
            WriteRequest::Turn(end) => {
                turn += 1;
                match read.turns.get(&turn) {
                    Some(created_us) => {
                        turn_ended(core, end, *created_us, sizes[turn - 1], &leased);
                        Ok(None)
                    }
                    None => Err(ProviderError::permanent(
                        "ack_orchestration_item",
                        "Invalid lock token: the turn has ended, or its lock expired",
                    )),
                }
            }
            WriteRequest::Activity(end) if read.activities.contains(&end.id) => Ok(None),
            WriteRequest::Activity(_) => Err(ProviderError::permanent(
                "ack_work_item",
                "the activity was cancelled, or its lock expired (Invalid lock token)",
            )),
            WriteRequest::Start(_) => {
                start += 1;
                Ok(read.starts.get(&start).cloned())
            }
            WriteRequest::Messages(..) | WriteRequest::Look(_) => Ok(None),
        };
        operation.finish(outcome);
    }
    hand_over(core, batch, taken, read);
}

fn turn_ended(core: &Arc<NodeState>, end: &TurnEnd, created_us: Option<i64>, bytes: usize, leased: &HashSet<&str>) {
    let TurnEnd { token, held, execution, delta, metadata, .. } = end;
    let (instance, execution) = (held.instance.as_str(), i64::try_from(*execution).unwrap_or(i64::MAX));
    if end.ran {
        if metadata.status.as_deref().is_some_and(is_last) {
            core.histories.forget(instance);
        } else if held.execution == execution && held.length > 0 {
            core.histories.append(instance, execution, held.length, delta.clone(), bytes);
        } else if let Some(created_us) = created_us.or(held.created_us) {
            let history = History { created_us, execution, events: delta.clone(), bytes };
            core.histories.put(instance, history);
        }
    }
    if can_be_waited_for(metadata, delta) {
        core.outbox.tell_changed(instance);
    }
    // Something came while the turn was held, and its end may not have seen it.
    if core.held.remove(token) && !leased.contains(instance) {
        core.submit_and_forget(WriteRequest::Look(instance.to_owned()));
    }
}

fn hand_over(core: &Arc<NodeState>, batch: &Batch, taken: EagerLeases, read: Reading) {
    let leased: HashSet<&str> = read.leases.iter().map(|lease| lease.instance.as_str()).collect();
    let mut tells = taken.leaves_turns;
    for (instance, is_sent) in batch.targets.iter().filter(|(instance, _)| !leased.contains(instance.as_str())) {
        // The end of a turn that is held here looks for what has come.
        if !is_sent || core.held.came(instance) {
            continue;
        }
        // Another node holds a turn of it, or one ended here in this moment that did not see it.
        tells = true;
        if taken.targets.contains(instance) {
            core.submit_and_forget(WriteRequest::Look(instance.clone()));
        }
    }
    if taken.leaves_turns {
        core.hint_turns();
    }
    if tells {
        core.outbox.tell_turns();
    }
    if let Some(lane) = &taken.lane {
        deliver(core, lane, read.leases);
    }
    let mut activities = taken.activities;
    for (token, id) in read.scheduled {
        if let Some((lane, item)) = activities.remove(&token) {
            lane.offer(LeasedActivity { item, id, token, attempt: 1 });
        }
    }
    if taken.leaves_activities {
        core.hint_activities();
        core.outbox.tell_activities();
    }
    if let Some(delay_ms) = batch.first_delay() {
        core.due_in(delay_ms);
    }
    if !core.outbox.is_empty() {
        core.wanted.notify_one();
    }
}

/// The answer to a commit.
#[derive(Default)]
struct Reading {
    /// The turns that were ended, by their places, and when their instances were created.
    turns: HashMap<usize, Option<i64>>,
    activities: HashSet<i64>,
    /// What was found in place of starts, by their places: the orchestration that runs.
    starts: HashMap<usize, String>,
    scheduled: Vec<(String, i64)>,
    leases: Vec<LeaseRow>,
}

impl Reading {
    fn of(rows: &[PgRow]) -> Result<Self, sqlx::Error> {
        let mut read = Self::default();
        for row in rows.iter().map(AnswerRow) {
            let place = || row.id().map(|id| usize::try_from(id).unwrap_or(0));
            match row.kind()? {
                rows::TURN_ENDED => {
                    read.turns.insert(place()?, row.stamp()?);
                }
                rows::ACTIVITY_ENDED => {
                    read.activities.insert(row.id()?);
                }
                rows::START_FOUND => {
                    let waiting = row.item()?.and_then(|item| serde_json::from_str(&item).ok());
                    let name = row.name()?.or(match waiting {
                        Some(WorkItem::StartOrchestration { orchestration, .. }) => Some(orchestration),
                        _ => None,
                    });
                    read.starts.insert(place()?, name.unwrap_or_default());
                }
                rows::SCHEDULED_ACTIVITY => {
                    if let Ok(token) = row.token() {
                        read.scheduled.push((token, row.id()?));
                    }
                }
                _ => {}
            }
        }
        read.leases = leases(rows)?;
        Ok(read)
    }
}
