//! Takes in starts and messages for instances, activities that no turn has scheduled, and mismatch reports.

use std::collections::HashSet;
use std::sync::Arc;

use duroxide::providers::WorkItem;
use tokio::sync::oneshot;

use crate::error::Result;
use crate::error::StoreError;
use crate::failure::Failure;
use crate::sqlite::owner::core::OwnerCore;
use crate::sqlite::owner::disk::change::Change;
use crate::sqlite::owner::disk::effect::CommitEffect;
use crate::sqlite::owner::disk::job::Written;
use crate::sqlite::owner::disk::rows::{ActivityRow, MessageRow};
use crate::sqlite::owner::memory::activity_queue::Activity;
use crate::sqlite::owner::memory::ids::{Number, Sequence};
use crate::sqlite::owner::memory::instance::Message;
use crate::sqlite::owner::memory::state::OwnerState;
use crate::start::{IfExists, StartOutcome, StartRequest, decide_starts};
use crate::work_item::{encode, is_activity, target};

/// A position in an inbox. The owner records it together with the changes of the request at this position.
#[derive(Clone)]
pub struct InboxPosition {
    pub inbox: String,
    pub position: i64,
}

impl OwnerState {
    /// Adds a message to its instance in memory. The caller must write the added `changes` first, and then the row of
    /// the message. `None` for a message to an ended instance, which would never read it.
    pub fn deliver(
        &mut self,
        number: Number,
        item: WorkItem,
        visible_ms: u64,
        changes: &mut Vec<Change>,
    ) -> Option<Sequence> {
        let policy = self.policy;
        let instance = self.get(number)?;
        let starting: Option<Arc<str>> = match &item {
            WorkItem::StartOrchestration { orchestration, .. } if instance.running().is_none() => {
                Some(orchestration.as_str().into())
            }
            _ => None,
        };
        if policy.gate_messages && instance.has_ended() && !matches!(item, WorkItem::StartOrchestration { .. }) {
            return None;
        }
        if let Some(starting) = &starting {
            instance.record.get_or_insert_default().starting = Some(Arc::clone(starting));
        }
        let row = instance.make_row(number, starting.clone());
        // A new row already contains the waiting start.
        changes.extend(row.or_else(|| starting.map(|orchestration| Change::Starting { number, orchestration })));
        let sequence = self.sequence();
        self.push(number, Message { sequence, item: Box::new(item), attempts: 0, is_loaded: false }, visible_ms);
        Some(sequence)
    }
}

/// The instance and the orchestration of a start.
fn start(item: &WorkItem) -> Option<(&str, &str)> {
    match item {
        WorkItem::StartOrchestration { instance, orchestration, .. } => Some((instance, orchestration)),
        _ => None,
    }
}

fn set_execution(item: &mut WorkItem, execution: u64) {
    if let WorkItem::StartOrchestration { execution_id, .. } = item {
        *execution_id = execution;
    }
}

impl OwnerCore {
    /// Sends messages, all of them or none.
    pub async fn send_messages(&self, items: Vec<WorkItem>, visible_ms: u64) -> Result<()> {
        self.admit("enqueue_for_orchestrator").await?;
        let written = self.submit_messages(items, visible_ms, None)?;
        self.wait_until_written_or_stalled(written).await
    }

    pub fn submit_messages(
        &self,
        items: Vec<WorkItem>,
        visible_ms: u64,
        position: Option<InboxPosition>,
    ) -> Result<Written> {
        let data: Vec<String> = items.iter().map(encode).collect::<Result<_>>()?;
        let owned: Vec<String> = items.iter().map(|item| target(item).to_owned()).collect();
        if items.iter().any(is_activity) {
            let message = "an activity is not a message to an instance";
            return Err(Failure::refused("enqueue_for_orchestrator", message));
        }
        let ids: Vec<&str> = owned.iter().map(String::as_str).collect();
        self.with_instances(&ids, |state, numbers| {
            let mut changes = Vec::with_capacity(items.len() + 1);
            let mut pushed = Vec::with_capacity(items.len());
            for ((item, data), number) in items.into_iter().zip(data).zip(numbers) {
                if let Some(sequence) = state.deliver(*number, item, visible_ms, &mut changes) {
                    changes.push(Change::Message(MessageRow { sequence, number: *number, visible_ms, data }));
                    pushed.push((*number, sequence));
                } else {
                    state.forget_if_idle(*number);
                }
            }
            self.write(changes, pushed, position)
        })
    }

    /// Starts instances, all of them or none, without waiting for the disk.
    pub fn submit_starts(
        &self,
        requests: Vec<StartRequest>,
        if_exists: IfExists,
        position: Option<InboxPosition>,
    ) -> Result<(Vec<StartOutcome>, Written), StoreError> {
        let owned: Vec<String> = requests.iter().map(|request| request.instance.clone()).collect();
        let ids: Vec<&str> = owned.iter().map(String::as_str).collect();
        let items: Vec<(WorkItem, String, u64)> = requests
            .into_iter()
            .map(|request| {
                let visible_ms = request.visible_ms();
                let item = request.into_message();
                let data = encode(&item)?;
                Ok((item, data, visible_ms))
            })
            .collect::<Result<_>>()?;
        self.with_instances(&ids, |state, numbers| {
            let outcomes = decide_starts(items.iter().filter_map(|(item, ..)| start(item)), if_exists, |id| {
                Ok(state.numbers.get(id).and_then(|number| state.instances.get(number)?.existing()))
            })?;
            let mut changes = Vec::with_capacity(2 * items.len());
            let mut pushed = Vec::with_capacity(items.len());
            for (((mut item, mut data, visible_ms), number), outcome) in items.into_iter().zip(numbers).zip(&outcomes) {
                if *outcome == StartOutcome::Restarted
                    && let Some(instance) = state.get(*number)
                {
                    changes.extend(instance.restart(*number));
                    set_execution(&mut item, instance.execution());
                    data = encode(&item)?;
                }
                if *outcome != StartOutcome::Attached
                    && let Some(sequence) = state.deliver(*number, item, visible_ms, &mut changes)
                {
                    changes.push(Change::Message(MessageRow { sequence, number: *number, visible_ms, data }));
                    pushed.push((*number, sequence));
                } else {
                    state.forget_if_idle(*number);
                }
            }
            Ok((outcomes, self.write(changes, pushed, position)))
        })?
    }

    pub fn note_mismatch(&self, id: &str, report: &str) {
        let mut state = self.lock();
        let Some(number) = state.numbers.get(id).copied() else { return };
        if let Some(record) = state.get(number).and_then(|instance| instance.record.as_mut()) {
            record.has_mismatch = true;
        }
        let changes = vec![Change::Mismatch { number, report: report.to_owned() }];
        self.submit_and_forget(Some(number), changes, CommitEffect::None);
    }

    /// Sends changes and an inbox position to the writer. Without any, the returned receiver resolves at once.
    pub fn write(
        &self,
        mut changes: Vec<Change>,
        pushed: Vec<(Number, Sequence)>,
        position: Option<InboxPosition>,
    ) -> Written {
        if let Some(InboxPosition { inbox, position }) = position {
            changes.push(Change::InboxPosition { inbox, position });
        }
        if changes.is_empty() {
            let (answer, written) = oneshot::channel();
            answer.send(Ok(())).ok();
            return written;
        }
        self.submit(None, changes, CommitEffect::Pushed(pushed))
    }

    /// Adds an activity that no turn has scheduled.
    pub async fn send_activity(&self, item: WorkItem) -> Result<()> {
        let id = target(&item).to_owned();
        let data = encode(&item)?;
        let written = self.with_instances(&[&id], |state, numbers| {
            let number = numbers[0];
            let row = state.get(number).and_then(|instance| instance.make_row(number, None));
            let mut changes = Vec::from_iter(row);
            let sequence = state.sequence();
            changes.push(Change::Activity(ActivityRow { sequence, number, attempts: 0, data }));
            self.submit(Some(number), changes, CommitEffect::Activity(Box::new(Activity::new(sequence, number, item))))
        })?;
        self.wait_until_written_or_stalled(written).await
    }

    /// Adds events to a history without a turn.
    pub async fn append(&self, id: &str, execution: u64, events: &[duroxide::Event]) -> Result<()> {
        let rows = events.iter().map(|event| Ok((event.event_id, encode(event)?))).collect::<Result<Vec<_>>>()?;
        let written = self.with_instances(&[id], |state, numbers| {
            let number = numbers[0];
            let row = state.get(number).and_then(|instance| instance.make_row(number, None));
            let mut changes = Vec::from_iter(row);
            changes.push(Change::Events { number, execution, events: rows });
            self.submit(Some(number), changes, CommitEffect::HistoryChanged(number))
        })?;
        self.wait_until_written_or_stalled(written).await
    }

    /// Which of these instances have ended.
    pub fn ended(&self, ids: &[String]) -> Result<HashSet<String>> {
        let instances: Vec<&str> = ids.iter().map(String::as_str).collect();
        self.with_instances(&instances, |state, numbers| {
            let mut ended = HashSet::new();
            for (id, number) in ids.iter().zip(numbers) {
                let Some(instance) = state.get(*number) else { continue };
                if instance.has_ended() {
                    ended.insert(id.clone());
                }
                // An instance that runs stays in memory, since a message follows.
                if instance.has_ended() || !instance.exists() {
                    state.forget_if_idle(*number);
                }
            }
            ended
        })
    }

    /// The orchestration that the instance runs, or that a waiting start will run.
    pub fn running(&self, id: &str) -> Result<Option<Arc<str>>> {
        self.with_instances(&[id], |state, numbers| {
            let running = state.get(numbers[0]).and_then(|instance| instance.running());
            state.forget_if_idle(numbers[0]);
            running
        })
    }
}
