//! The end of a turn: what a dispatcher acknowledges, and how it is made ready to be written.

use duroxide::providers::{ExecutionMetadata, ProviderError, ScheduledActivityIdentifier, WorkItem};
use duroxide::{Event, EventKind};

use crate::clock::now_ms;
use crate::error::Result;
use crate::history::is_last;
use crate::sqlite::owner::disk::change::{ActivityRow, Change, CustomStatus, KvChange, MessageRow, TurnRow};
use crate::sqlite::owner::disk::effect::{Effect, TurnEffect};
use crate::sqlite::owner::disk::writer::Written;
use crate::sqlite::owner::memory::activity_queue::Activity;
use crate::sqlite::owner::memory::ids::{Number, Sequence, Token};
use crate::sqlite::owner::memory::state::{Known, State};
use crate::sqlite::owner::operations::turns::INVALID;
use crate::sqlite::owner::{Locked, OwnerCore};
use crate::work_item::{encode, target};

const ACKNOWLEDGE: &str = "ack_orchestration_item";

/// What an acknowledgement brings, with everything made ready to be written.
pub struct TurnEnd {
    pub execution: u64,
    pub delta: Vec<Event>,
    pub activities: Vec<WorkItem>,
    pub messages: Vec<WorkItem>,
    pub metadata: ExecutionMetadata,
    pub cancelled: Vec<ScheduledActivityIdentifier>,
}

struct Encoded {
    events: Vec<(u64, String)>,
    activities: Vec<String>,
    messages: Vec<String>,
}

impl OwnerCore {
    pub async fn end_turn(&self, token: &str, end: TurnEnd) -> Result<()> {
        let token: Token = token.parse().map_err(|_| ProviderError::permanent(ACKNOWLEDGE, INVALID))?;
        let encoded = Encoded {
            events: end.delta.iter().map(|event| Ok((event.event_id, encode(event)?))).collect::<Result<_>>()?,
            activities: end.activities.iter().map(encode).collect::<Result<_>>()?,
            messages: end.messages.iter().map(encode).collect::<Result<_>>()?,
        };
        let owned: Vec<String> =
            end.messages.iter().chain(&end.activities).map(|item| target(item).to_owned()).collect();
        let ids: Vec<&str> = owned.iter().map(String::as_str).collect();
        let written =
            self.with_instances(&ids, |state, numbers| self.submit_turn(state, numbers, token, end, encoded))??;
        self.settled(written).await
    }

    fn submit_turn(
        &self,
        state: &mut Locked<'_>,
        numbers: &[Number],
        token: Token,
        end: TurnEnd,
        encoded: Encoded,
    ) -> Result<Written> {
        let number = state.check_turn(token, &end)?;
        let mut changes = Vec::new();
        let TurnEnd { execution, delta, activities, messages, metadata, cancelled } = end;
        let mut row = TurnRow { number, execution, events: encoded.events, ..TurnRow::default() };
        let known = state.begin_ending(number, &mut row, &mut changes);
        row.pinned = metadata.pinned_duroxide_version.map(|version| (version.major, version.minor, version.patch));
        row.status = metadata.status;
        row.output = metadata.output;
        row.parent = metadata.parent_instance_id;
        row.recorded = metadata.orchestration_name.zip(metadata.orchestration_version);
        row.is_new_instance = row.recorded.is_some() && known.orchestration.is_none();
        row.time_ms = delta.last().map_or_else(now_ms, |event| event.timestamp_ms);
        row.begins = execution > known.recorded_execution;
        let has_ended = row.status.as_deref().is_some_and(is_last);
        row.merges_kv = has_ended || row.status.as_deref() == Some("ContinuedAsNew");
        row.clears_mismatch = state.has_mismatch(number);
        fold(&delta, &mut row);
        row.merges_kv &= known.has_kv || !row.kv.is_empty();
        let mut effect = TurnEffect {
            number,
            token,
            execution,
            delta,
            recorded: row.recorded.clone(),
            pinned: row.pinned,
            has_ended,
            has_kv: known.has_kv || !row.kv.is_empty(),
            activities: Vec::with_capacity(activities.len()),
            cancelled: Vec::new(),
            pushed: Vec::with_capacity(messages.len()),
        };
        if has_ended && state.policy.gate_messages {
            row.consumed.extend(state.drop_unread(number));
        }
        let (to_messages, to_activities) = numbers.split_at(messages.len());
        for ((item, data), receiver) in activities.into_iter().zip(encoded.activities).zip(to_activities) {
            let sequence = state.sequence();
            // It is handed out as soon as it is recorded, and may end the process before anything else is.
            let is_counted = state.activities.is_awaited(&item, effect.activities.len());
            let attempts = u32::from(is_counted);
            row.activities.push(ActivityRow { sequence, number: *receiver, attempts, data });
            effect.activities.push(Activity { attempts, is_counted, ..Activity::new(sequence, *receiver, item) });
        }
        for activity in cancelled {
            let Some(owner) = state.numbers.get(activity.instance.as_str()).copied() else { continue };
            let key = (owner, activity.execution_id, activity.activity_id);
            let scheduled_now = effect.activities.iter().find(|new| {
                matches!(&new.item, WorkItem::ActivityExecute { execution_id, id, .. }
                    if (new.number, *execution_id, *id) == key)
            });
            let sequence = scheduled_now.map(|new| new.sequence).or_else(|| state.activities.by_key(key));
            row.cancelled.extend(sequence);
            effect.cancelled.extend(sequence);
        }
        for ((item, data), receiver) in messages.into_iter().zip(encoded.messages).zip(to_messages) {
            let visible_ms = match &item {
                WorkItem::TimerFired { fire_at_ms, .. } => *fire_at_ms,
                _ => 0,
            };
            if let Some(pushed) = state.deliver(*receiver, item, visible_ms, &mut changes) {
                row.messages.push(MessageRow { sequence: pushed, number: *receiver, visible_ms, data });
                effect.pushed.push((*receiver, pushed));
            }
        }
        changes.push(Change::Turn(Box::new(row)));
        Ok(self.submit(Some(number), changes, Effect::Turn(Box::new(effect))))
    }
}

/// What the events of a turn change beside the history.
fn fold(delta: &[Event], row: &mut TurnRow) {
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

impl State {
    /// The instance of a turn that may be acknowledged as `end` says.
    fn check_turn(&mut self, token: Token, end: &TurnEnd) -> Result<Number> {
        let invalid = || ProviderError::permanent(ACKNOWLEDGE, INVALID);
        let number = self.turn(token).ok_or_else(invalid)?;
        let instance = self.instances.get(&number).ok_or_else(invalid)?;
        let held = instance.held.as_ref().ok_or_else(invalid)?;
        // A lease that nobody has ended yet is as good as one that lasts.
        if held.token != token || held.is_ending {
            return Err(invalid());
        }
        if let (Some(history), Some(first)) = (&instance.history, end.delta.first())
            && history
                .lock()
                .iter()
                .rev()
                .take_while(|event| event.event_id >= first.event_id && event.execution_id == end.execution)
                .any(|event| end.delta.iter().any(|new| new.event_id == event.event_id))
        {
            return Err(ProviderError::permanent(
                ACKNOWLEDGE,
                format!("event {} of execution {} is recorded already", first.event_id, end.execution),
            ));
        }
        Ok(number)
    }

    /// Marks a turn as being written, and notes what it consumes.
    fn begin_ending(&mut self, number: Number, row: &mut TurnRow, changes: &mut Vec<Change>) -> Known {
        let Some(instance) = self.instances.get_mut(&number) else { return Known::default() };
        changes.extend(instance.make_row(number, None));
        if let Some(held) = &mut instance.held {
            held.is_ending = true;
            row.consumed.extend(held.taken.iter().map(|message| message.sequence));
        }
        instance.known.clone().unwrap_or_default()
    }

    /// Messages that an ended instance will never read. A start may want to be told that its id is taken.
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
