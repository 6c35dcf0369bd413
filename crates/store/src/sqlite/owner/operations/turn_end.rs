//! Ends a turn: prepares the changes of an acknowledged turn, and sends them to the writer.

use duroxide::providers::WorkItem;
use duroxide::{Event, EventKind};

use crate::clock::now_ms;
use crate::error::Result;
use crate::failure::Failure;
use crate::history::is_last;
use crate::sqlite::owner::core::{LockedState, OwnerCore};
use crate::sqlite::owner::disk::change::Change;
use crate::sqlite::owner::disk::effect::{CommitEffect, TurnEffect};
use crate::sqlite::owner::disk::job::Written;
use crate::sqlite::owner::disk::rows::{ActivityRow, MessageRow};
use crate::sqlite::owner::disk::turn_row::{CustomStatus, KvChange, TurnRow};
use crate::sqlite::owner::memory::activity_queue::Activity;
use crate::sqlite::owner::memory::ids::{Number, Sequence, Token};
use crate::sqlite::owner::memory::instance::RecordedInstance;
use crate::sqlite::owner::memory::state::OwnerState;
use crate::sqlite::owner::operations::turns::INVALID;
use crate::start::End;
use crate::turn_commit::TurnCommit;
use crate::work_item::{encode, target};

const ACKNOWLEDGE: &str = "ack_orchestration_item";

/// The JSON of the events, activities and messages of a turn.
struct EncodedTurn {
    events: Vec<(u64, String)>,
    activities: Vec<String>,
    messages: Vec<String>,
}

impl OwnerCore {
    pub async fn end_turn(&self, token: &str, commit: &TurnCommit) -> Result<()> {
        let token: Token = token.parse().map_err(|_| Failure::lock_lost(ACKNOWLEDGE, INVALID))?;
        let encoded = EncodedTurn {
            events: commit.delta.iter().map(|event| Ok((event.event_id, encode(event)?))).collect::<Result<_>>()?,
            activities: commit.activities.iter().map(encode).collect::<Result<_>>()?,
            messages: commit.messages.iter().map(encode).collect::<Result<_>>()?,
        };
        let owned: Vec<String> =
            commit.messages.iter().chain(&commit.activities).map(|item| target(item).to_owned()).collect();
        let ids: Vec<&str> = owned.iter().map(String::as_str).collect();
        // Not under the lock of the state.
        let copy = commit.clone();
        let written =
            self.with_instances(&ids, |state, numbers| self.submit_turn(state, numbers, token, copy, encoded))??;
        self.wait_until_written(written).await
    }

    fn submit_turn(
        &self,
        state: &mut LockedState<'_>,
        numbers: &[Number],
        token: Token,
        commit: TurnCommit,
        encoded: EncodedTurn,
    ) -> Result<Written> {
        let number = state.check_turn(token, &commit)?;
        let mut changes = Vec::new();
        let TurnCommit { execution_id: execution, delta, activities, messages, metadata, cancelled } = commit;
        let mut row = TurnRow { number, execution, events: encoded.events, ..TurnRow::default() };
        let record = state.mark_ending(number, &mut row, &mut changes);
        row.pinned = metadata.pinned_duroxide_version.map(|version| (version.major, version.minor, version.patch));
        row.status = metadata.status;
        row.output = metadata.output;
        row.parent = metadata.parent_instance_id;
        row.recorded = metadata.orchestration_name.zip(metadata.orchestration_version);
        row.is_new_instance = row.recorded.is_some() && record.orchestration.is_none();
        row.time_ms = delta.last().map_or_else(now_ms, |event| event.timestamp_ms);
        row.is_first_turn = execution > record.recorded_execution;
        let has_ended = row.status.as_deref().is_some_and(is_last);
        row.merges_kv = has_ended || row.status.as_deref() == Some("ContinuedAsNew");
        row.clears_mismatch = state.take_mismatch(number);
        collect_changes(&delta, &mut row);
        row.merges_kv &= record.has_kv || !row.kv.is_empty();
        let mut effect = TurnEffect {
            number,
            token,
            execution,
            delta,
            recorded: row.recorded.clone(),
            pinned: row.pinned,
            end: row.status.as_deref().and_then(End::of),
            has_kv: record.has_kv || !row.kv.is_empty(),
            activities: Vec::with_capacity(activities.len()),
            cancelled: Vec::new(),
            pushed: Vec::with_capacity(messages.len()),
        };
        if has_ended && state.policy.gate_messages {
            row.consumed.extend(state.drop_unread(number));
        }
        let (to_messages, to_activities) = numbers.split_at(messages.len());
        for ((item, data), target) in activities.into_iter().zip(encoded.activities).zip(to_activities) {
            let sequence = state.sequence();
            // A waiting fetch gets the activity as soon as it is recorded. The activity may kill the process before
            // another write, so its row already contains the attempt.
            let is_counted = state.activities.is_awaited(&item, effect.activities.len());
            let attempts = u32::from(is_counted);
            row.activities.push(ActivityRow { sequence, number: *target, attempts, data });
            effect.activities.push(Activity { attempts, is_counted, ..Activity::new(sequence, *target, item) });
        }
        for activity in cancelled {
            let Some(number) = state.numbers.get(activity.instance.as_str()).copied() else { continue };
            let key = (number, activity.execution_id, activity.activity_id);
            let scheduled_now = effect.activities.iter().find(|new| {
                matches!(&new.item, WorkItem::ActivityExecute { execution_id, id, .. }
                    if (new.number, *execution_id, *id) == key)
            });
            let sequence = scheduled_now.map(|new| new.sequence).or_else(|| state.activities.by_key(key));
            row.cancelled.extend(sequence);
            effect.cancelled.extend(sequence);
        }
        for ((item, data), target) in messages.into_iter().zip(encoded.messages).zip(to_messages) {
            let visible_ms = match &item {
                WorkItem::TimerFired { fire_at_ms, .. } => *fire_at_ms,
                _ => 0,
            };
            if let Some(sequence) = state.deliver(*target, item, visible_ms, &mut changes) {
                row.messages.push(MessageRow { sequence, number: *target, visible_ms, data });
                effect.pushed.push((*target, sequence));
            }
        }
        changes.push(Change::Turn(Box::new(row)));
        Ok(self.submit(Some(number), changes, CommitEffect::Turn(Box::new(effect))))
    }
}

/// Collects the changes that the events of a turn make outside the history.
fn collect_changes(delta: &[Event], row: &mut TurnRow) {
    for event in delta {
        match &event.kind {
            EventKind::CustomStatusUpdated { status } => row.custom_status = Some(CustomStatus(status.clone())),
            EventKind::KeyValueSet { key, value, last_updated_at_ms } => {
                row.kv.push(KvChange::Set { key: key.clone(), value: value.clone(), updated_ms: *last_updated_at_ms });
            }
            EventKind::KeyValueCleared { key } => row.kv.push(KvChange::Clear { key: key.clone() }),
            EventKind::KeyValuesCleared => row.kv.push(KvChange::ClearAll),
            _ => {}
        }
    }
}

impl OwnerState {
    /// Checks whether a turn can end with `commit`, and returns its instance.
    fn check_turn(&mut self, token: Token, commit: &TurnCommit) -> Result<Number> {
        let invalid = || Failure::lock_lost(ACKNOWLEDGE, INVALID);
        let number = self.turn(token).ok_or_else(invalid)?;
        let instance = self.instances.get(&number).ok_or_else(invalid)?;
        let held = instance.leased.as_ref().ok_or_else(invalid)?;
        // A lease whose time is over still counts until it is ended.
        if held.token != token || held.is_ending {
            return Err(invalid());
        }
        if let (Some(history), Some(first)) = (&instance.history, commit.delta.first())
            && history
                .lock()
                .iter()
                .rev()
                .take_while(|event| event.event_id >= first.event_id && event.execution_id == commit.execution_id)
                .any(|event| commit.delta.iter().any(|new| new.event_id == event.event_id))
        {
            return Err(Failure::refused(
                ACKNOWLEDGE,
                format!("event {} of execution {} is recorded already", first.event_id, commit.execution_id),
            ));
        }
        Ok(number)
    }

    /// Marks a turn as being written, and adds its messages to the row. Returns the record of the instance.
    fn mark_ending(&mut self, number: Number, row: &mut TurnRow, changes: &mut Vec<Change>) -> RecordedInstance {
        let Some(instance) = self.instances.get_mut(&number) else { return RecordedInstance::default() };
        changes.extend(instance.make_row(number, None));
        if let Some(leased) = &mut instance.leased {
            leased.is_ending = true;
            row.consumed.extend(leased.taken.iter().map(|message| message.sequence));
        }
        instance.record.clone().unwrap_or_default()
    }

    /// Removes the messages that an ended instance will never read. Starts stay, since the engine answers them.
    fn drop_unread(&mut self, number: Number) -> Vec<Sequence> {
        let Some(instance) = self.instances.get_mut(&number) else { return Vec::new() };
        let mut dropped: Vec<_> = std::mem::take(&mut instance.delayed).into_keys().collect();
        instance.queue.retain(|message| {
            let is_start = matches!(*message.item, WorkItem::StartOrchestration { .. });
            if !is_start {
                dropped.push(message.sequence);
            }
            is_start
        });
        dropped
    }
}
