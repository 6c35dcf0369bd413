//! Turns a batch of operations into the columns of the server's function.

use std::collections::BTreeMap;

use duroxide::providers::WorkItem;
use duroxide::{Event, EventKind};
use sqlx::postgres::PgRow;
use sqlx::{Executor as _, PgConnection, query};

use crate::error::Result;
use crate::failure::Failure;
use crate::history::{event_kind_name, is_last};
use crate::postgres::connect::session::BEGIN;
use crate::postgres::node::request::{TurnWrite, WriteRequest};
use crate::turn_commit::TurnCommit;
use crate::work_item::{encode, is_activity, target};

/// The parameters of the server's function `python_commit`, in its order. The places of turns are counted from 1; 0
/// stands for no turn.
#[derive(Default)]
pub struct Batch {
    turn_tokens: Vec<String>,
    turn_instances: Vec<String>,
    turn_executions: Vec<i64>,
    turn_records: Vec<bool>,
    turn_names: Vec<Option<String>>,
    turn_versions: Vec<Option<String>>,
    turn_parents: Vec<Option<String>>,
    turn_statuses: Vec<Option<String>>,
    turn_outputs: Vec<Option<String>>,
    turn_pins: [Vec<Option<i32>>; 3],
    turn_custom_sets: Vec<bool>,
    turn_customs: Vec<Option<String>>,
    read_turns: Vec<i32>,
    read_ids: Vec<i64>,
    event_turns: Vec<i32>,
    event_ids: Vec<i64>,
    event_types: Vec<&'static str>,
    event_data: Vec<String>,
    key_turns: Vec<i32>,
    key_actions: Vec<&'static str>,
    keys: Vec<String>,
    key_values: Vec<Option<String>>,
    key_times: Vec<i64>,
    cancelled_turns: Vec<i32>,
    cancelled_instances: Vec<String>,
    cancelled_executions: Vec<i64>,
    cancelled_ids: Vec<i64>,
    hold_turns: Vec<i32>,
    hold_ids: Vec<i64>,
    hold_ms: Vec<i64>,
    pub activities: ActivityColumns,
    sent_turns: Vec<i32>,
    sent_instances: Vec<String>,
    sent_items: Vec<String>,
    sent_delays_ms: Vec<Option<i64>>,
    pub ended_ids: Vec<i64>,
    ended_tokens: Vec<String>,
    ended_instances: Vec<Option<String>>,
    ended_items: Vec<Option<String>>,
    start_instances: Vec<String>,
    start_items: Vec<String>,
    /// The instances that may have something to read after the commit, and whether this batch sends them a message.
    pub targets: BTreeMap<String, bool>,
}

/// The activities that turns schedule.
#[derive(Default)]
pub struct ActivityColumns {
    turns: Vec<i32>,
    pub items: Vec<WorkItem>,
    data: Vec<String>,
    instances: Vec<String>,
    executions: Vec<i64>,
    ids: Vec<i64>,
    pub sessions: Vec<Option<String>>,
    pub tags: Vec<Option<String>>,
    /// The tokens of the activities that the commit leases to this node.
    pub tokens: Vec<Option<String>>,
}

/// The leases that the commit shall grant to this node, and for how long.
pub struct EagerDemand<'a> {
    pub instances: &'a [String],
    pub tokens: &'a [String],
    pub lease_ms: i64,
    pub versions: Option<(i64, i64)>,
    pub activity_lease_ms: i64,
}

/// How many bytes of JSON each turn adds to its history.
pub type Sizes = Vec<usize>;

impl Batch {
    /// The columns of the operations, and the size of each turn among them. Fails if an operation cannot be written at
    /// all.
    pub fn of<'a>(operations: impl Iterator<Item = &'a WriteRequest>) -> Result<(Self, Sizes)> {
        let mut batch = Self::default();
        let mut sizes = Vec::new();
        for operation in operations {
            match operation {
                WriteRequest::Turn(turn) => sizes.push(batch.add_turn(turn)?),
                WriteRequest::Activity(end) => {
                    let completion = end.completion.as_ref();
                    let instance = completion.map(|item| target(item).to_owned());
                    batch.targets.extend(instance.clone().map(|instance| (instance, true)));
                    batch.ended_ids.push(end.id);
                    batch.ended_tokens.push(end.token.clone());
                    batch.ended_instances.push(instance);
                    batch.ended_items.push(completion.map(encode).transpose()?);
                }
                WriteRequest::Start(request) => {
                    batch.start_instances.push(request.instance.clone());
                    batch.start_items.push(encode(&request.clone().into_message())?);
                    batch.targets.insert(request.instance.clone(), true);
                }
                WriteRequest::CheckInstance(instance) => {
                    batch.targets.entry(instance.clone()).or_default();
                }
                WriteRequest::Messages(messages, delay_ms) => {
                    for message in messages {
                        batch.send(0, message, *delay_ms, None)?;
                    }
                }
            }
        }
        Ok((batch, sizes))
    }

    fn send(&mut self, turn: i32, message: &WorkItem, delay_ms: Option<i64>, sender: Option<&str>) -> Result<()> {
        const OPERATION: &str = "enqueue_for_orchestrator";
        let instance = if is_activity(message) { sender } else { Some(target(message)) };
        let Some(instance) = instance else {
            return Err(Failure::refused(OPERATION, "an activity is no message to an instance"));
        };
        if delay_ms.is_none() {
            self.targets.insert(instance.to_owned(), true);
        }
        self.sent_turns.push(turn);
        self.sent_instances.push(instance.to_owned());
        self.sent_items.push(encode(message)?);
        self.sent_delays_ms.push(delay_ms);
        Ok(())
    }

    fn add_turn(&mut self, write: &TurnWrite) -> Result<usize> {
        const OPERATION: &str = "ack_orchestration_item";
        let TurnWrite { token, held, commit, ran } = write;
        let TurnCommit { execution_id: execution, delta, activities, messages, metadata, cancelled } = &**commit;
        let instance = &held.instance;
        self.turn_tokens.push(token.clone());
        let turn = i32::try_from(self.turn_tokens.len()).unwrap_or(i32::MAX);
        let execution = i64::try_from(*execution).unwrap_or(i64::MAX);
        self.turn_instances.push(instance.clone());
        self.turn_executions.push(execution);
        let pinned = metadata.pinned_duroxide_version.as_ref();
        // If the turn continues an execution that has events, the rows of the instance and of the execution exist
        // already.
        let continues = held.length > 0 && held.created_us.is_some() && held.execution == execution;
        let changes_rows = metadata.orchestration_name.is_some() || metadata.status.is_some() || pinned.is_some();
        self.turn_records.push(*ran && (!continues || changes_rows));
        self.turn_names.push(metadata.orchestration_name.clone());
        self.turn_versions.push(metadata.orchestration_version.clone());
        self.turn_parents.push(metadata.parent_instance_id.clone());
        self.turn_statuses.push(metadata.status.clone());
        self.turn_outputs.push(metadata.output.clone());
        let parts = pinned.map(|version| [version.major, version.minor, version.patch]);
        for (place, pin) in self.turn_pins.iter_mut().enumerate() {
            pin.push(parts.and_then(|parts| i32::try_from(parts[place]).ok()));
        }
        let custom = delta.iter().rev().find_map(|event| match &event.kind {
            EventKind::CustomStatusUpdated { status } => Some(status.clone()),
            _ => None,
        });
        self.turn_custom_sets.push(custom.is_some());
        self.turn_customs.push(custom.flatten());

        self.read_turns.extend(held.read.iter().map(|_| turn));
        self.read_ids.extend(&held.read);
        self.targets.entry(instance.clone()).or_default();
        if metadata.status.as_deref().is_some_and(is_last) {
            // The execution has ended, so it will never take the held messages.
            self.read_turns.extend(held.held_back_ids().map(|_| turn));
            self.read_ids.extend(held.held_back_ids());
        } else {
            for (id, hold_ms) in held.visibility_changes(delta) {
                self.hold_turns.push(turn);
                self.hold_ids.push(id);
                self.hold_ms.push(hold_ms);
            }
        }
        let now = held.now_ms();
        let mut bytes = 0;
        for event in delta {
            if event.event_id() == 0 {
                return Err(Failure::refused(OPERATION, "event_id must be set by runtime"));
            }
            let data = encode(event)?;
            bytes += data.len();
            self.event_turns.push(turn);
            self.event_ids.push(i64::try_from(event.event_id()).unwrap_or(i64::MAX));
            self.event_types.push(event_kind_name(&event.kind));
            self.event_data.push(data);
            self.add_key(turn, event);
        }
        for item in activities {
            if let WorkItem::ActivityExecute { instance, execution_id, id, session_id, tag, .. } = item {
                let scheduled = &mut self.activities;
                scheduled.turns.push(turn);
                scheduled.items.push(item.clone());
                scheduled.data.push(encode(item)?);
                scheduled.instances.push(instance.clone());
                scheduled.executions.push(i64::try_from(*execution_id).unwrap_or(i64::MAX));
                scheduled.ids.push(i64::try_from(*id).unwrap_or(i64::MAX));
                scheduled.sessions.push(session_id.clone());
                scheduled.tags.push(tag.clone());
                scheduled.tokens.push(None);
            }
        }
        for each in cancelled {
            self.cancelled_turns.push(turn);
            self.cancelled_instances.push(each.instance.clone());
            self.cancelled_executions.push(i64::try_from(each.execution_id).unwrap_or(i64::MAX));
            self.cancelled_ids.push(i64::try_from(each.activity_id).unwrap_or(i64::MAX));
        }
        for message in messages {
            self.send(turn, message, delay_of(message, now), Some(instance))?;
        }
        Ok(bytes)
    }

    fn add_key(&mut self, turn: i32, event: &Event) {
        let time = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
        let (action, key, value, time) = match &event.kind {
            EventKind::KeyValueSet { key, value, last_updated_at_ms } => {
                ("set", key.clone(), Some(value.clone()), time(*last_updated_at_ms))
            }
            EventKind::KeyValueCleared { key } => ("set", key.clone(), None, time(event.timestamp_ms)),
            EventKind::KeyValuesCleared => ("clear_all", String::new(), None, time(event.timestamp_ms)),
            _ => return,
        };
        self.key_turns.push(turn);
        self.key_actions.push(action);
        self.keys.push(key);
        self.key_values.push(value);
        self.key_times.push(time);
    }

    /// The parts that must be recorded exactly once: the instances that the batch starts, and the starts and messages
    /// that do not come from a turn.
    pub fn sent_once(&self) -> (Vec<String>, Vec<String>) {
        let sent = self.sent_turns.iter().zip(&self.sent_items).filter(|(turn, _)| **turn == 0).map(|(_, item)| item);
        (self.start_instances.clone(), self.start_items.iter().chain(sent).cloned().collect())
    }

    /// The shortest delay of a message that is due later, in milliseconds.
    pub fn first_delay(&self) -> Option<i64> {
        self.sent_delays_ms.iter().flatten().copied().min()
    }

    /// Calls the function of the server.
    pub async fn commit(
        &self,
        connection: &mut PgConnection,
        statement: &str,
        eager: &EagerDemand<'_>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let Self { activities, turn_pins: [majors, minors, patches], .. } = self;
        query(statement)
            .bind(&self.turn_tokens)
            .bind(&self.turn_instances)
            .bind(&self.turn_executions)
            .bind(&self.turn_records)
            .bind(&self.turn_names)
            .bind(&self.turn_versions)
            .bind(&self.turn_parents)
            .bind(&self.turn_statuses)
            .bind(&self.turn_outputs)
            .bind(majors)
            .bind(minors)
            .bind(patches)
            .bind(&self.turn_custom_sets)
            .bind(&self.turn_customs)
            .bind(&self.read_turns)
            .bind(&self.read_ids)
            .bind(&self.event_turns)
            .bind(&self.event_ids)
            .bind(&self.event_types)
            .bind(&self.event_data)
            .bind(&self.key_turns)
            .bind(&self.key_actions)
            .bind(&self.keys)
            .bind(&self.key_values)
            .bind(&self.key_times)
            .bind(&self.cancelled_turns)
            .bind(&self.cancelled_instances)
            .bind(&self.cancelled_executions)
            .bind(&self.cancelled_ids)
            .bind(&self.hold_turns)
            .bind(&self.hold_ids)
            .bind(&self.hold_ms)
            .bind(&activities.turns)
            .bind(&activities.data)
            .bind(&activities.instances)
            .bind(&activities.executions)
            .bind(&activities.ids)
            .bind(&activities.sessions)
            .bind(&activities.tags)
            .bind(&activities.tokens)
            .bind(eager.activity_lease_ms)
            .bind(&self.sent_turns)
            .bind(&self.sent_instances)
            .bind(&self.sent_items)
            .bind(&self.sent_delays_ms)
            .bind(&self.ended_ids)
            .bind(&self.ended_tokens)
            .bind(&self.ended_instances)
            .bind(&self.ended_items)
            .bind(&self.start_instances)
            .bind(&self.start_items)
            .bind(eager.instances)
            .bind(eager.tokens)
            .bind(eager.lease_ms)
            .bind(eager.versions.map(|(lowest, _)| lowest))
            .bind(eager.versions.map(|(_, highest)| highest))
            .fetch_all(connection)
            .await
    }

    /// Like [`Self::commit`], but stores the rows of the answer in `before_commit` before it commits. The rows hold the
    /// transaction id, so that after a lost reply the writer can ask the server whether it committed.
    pub async fn commit_explicitly(
        &self,
        connection: &mut PgConnection,
        statement: &str,
        eager: &EagerDemand<'_>,
        before_commit: &mut Option<Vec<PgRow>>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        connection.execute(BEGIN).await?;
        let rows = self.commit(connection, statement, eager).await?;
        *before_commit = Some(rows);
        connection.execute("COMMIT").await?;
        Ok(Vec::new())
    }
}

/// The delay of a message that is due later, in milliseconds. The engine uses the clock of this node, and the server
/// uses the server's clock, so the server gets the difference to `now`.
fn delay_of(message: &WorkItem, now: u64) -> Option<i64> {
    match message {
        WorkItem::TimerFired { fire_at_ms, .. } if *fire_at_ms > now => i64::try_from(fire_at_ms - now).ok(),
        _ => None,
    }
}

/// How many columns [`Batch::commit`] binds.
pub const COLUMNS: usize = 56;
