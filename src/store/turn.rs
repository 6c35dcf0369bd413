//! What a turn is told about the history and the messages that it runs on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use duroxide::providers::{OrchestrationItem, WorkItem};
use duroxide::{Event, EventKind};
use parking_lot::Mutex;
use tokio::task::Id;

use super::cancellation;
use super::clock::now_ms;
use super::kept::{Handover, Keeper};
use super::mismatch::Difference;
use super::recorded::{RecordedEvent, RecordedKind, hash_data};

/// The turn that a dispatcher's task runs.
pub struct TurnRecord {
    pub instance: String,
    /// Of the execution that the turn runs, which after a continue-as-new is not yet the stored one.
    pub execution_id: u64,
    pub attempt: u32,
    /// The time of this turn: what its events will be stamped with.
    pub time_ms: u64,
    /// How many events of this execution are recorded before this turn.
    pub persisted: usize,
    /// When this execution started.
    pub started_ms: u64,
    /// How many of the recorded events the driver was told of in an earlier turn, from which it goes on.
    pub told: usize,
    /// The other recorded events in order, then the messages of this batch.
    pub events: Vec<RecordedEvent>,
    /// When the keys written by earlier executions were last set.
    pub kv_times: HashMap<String, u64>,
    /// The custom status that the execution before has left.
    pub inherited_custom_status: Option<String>,
    /// Whether a request for the end of this execution reaches its code, as a message of `CANCELLATION_QUEUE`, instead of
    /// ending it. Its first recorded action says so once and for all; a new execution may choose.
    pub hears_cancellation: bool,
    /// The code has heard, in this turn, that it is to end.
    heard: AtomicBool,
    /// Why the code, having heard that, has ended.
    pub(super) cancelled: OnceLock<String>,
    /// Where, as the driver sees it, the code first did something else than history records.
    difference: OnceLock<Difference>,
    pub(super) handover: Handover,
    pub(in crate::store) code_time: Arc<CodeTime>,
}

impl TurnRecord {
    pub(super) fn new(item: &OrchestrationItem, attempt: u32, keeper: Option<&dyn Keeper>) -> Self {
        let carried = item.messages.iter().find_map(|message| match message {
            WorkItem::ContinueAsNew { carry_forward_events, .. } => Some(carry_forward_events.as_slice()),
            _ => None,
        });
        let history = if carried.is_some() { &[] } else { item.history.as_slice() };
        let execution_id = item.execution_id + u64::from(carried.is_some());
        let kept = keeper.and_then(|keeper| keeper.take(&item.instance)).filter(|kept| {
            started(history).is_some_and(|event| kept.leads_to(execution_id, event.timestamp_ms, history))
        });
        let told = kept.as_ref().map_or(0, |kept| kept.told);
        // The time of an instance never runs backwards, whatever the clocks of its nodes say.
        let before = kept.as_ref().map_or(0, |kept| kept.time_ms);
        let recorded = item.history.iter().skip(told).map(|event| event.timestamp_ms).max().unwrap_or(0);
        let time_ms = now_ms().max(recorded).max(before);
        let started_ms = started(history).map_or(time_ms, |event| event.timestamp_ms);

        let mut events: Vec<_> = history.iter().skip(told).map(RecordedEvent::recorded).collect();
        // The engine delivers what is carried over before all other messages of the batch.
        events.extend(carried.unwrap_or_default().iter().map(|(name, data)| {
            let kind = RecordedKind::Queue { name: name.clone(), data: hash_data(data) };
            RecordedEvent::arriving(None, time_ms, kind)
        }));
        events.extend(item.messages.iter().filter_map(|message| arrival(message, execution_id, time_ms)));

        let kv_times = item.kv_snapshot.iter().map(|(key, entry)| (key.clone(), entry.last_updated_at_ms)).collect();
        Self {
            instance: item.instance.clone(),
            execution_id,
            attempt,
            time_ms,
            persisted: history.len(),
            started_ms,
            told,
            events,
            kv_times,
            inherited_custom_status: inherited_custom_status(item, history),
            hears_cancellation: history.is_empty() || cancellation::is_heard(history),
            heard: AtomicBool::new(false),
            cancelled: OnceLock::new(),
            difference: OnceLock::new(),
            code_time: Arc::default(),
            handover: Handover::from(kept.map(|kept| kept.state)),
        }
    }

    /// A turn without history, for a handler that runs outside a dispatcher.
    pub fn empty(instance: String, execution_id: u64) -> Self {
        let time_ms = now_ms();
        Self {
            instance,
            execution_id,
            attempt: 1,
            time_ms,
            persisted: 0,
            started_ms: time_ms,
            told: 0,
            events: Vec::new(),
            kv_times: HashMap::new(),
            inherited_custom_status: None,
            hears_cancellation: true,
            heard: AtomicBool::new(false),
            cancelled: OnceLock::new(),
            difference: OnceLock::new(),
            code_time: Arc::default(),
            handover: Handover::default(),
        }
    }

    /// Runs the turn's code, from whose end its lease counts anew where the store is in this process.
    pub fn run<R>(&self, code: impl FnOnce() -> R) -> R {
        /// Also code that panics is over.
        struct Running<'a>(&'a CodeTime);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                *self.0.0.lock() = Ran::Until(Instant::now());
            }
        }
        *self.code_time.0.lock() = Ran::Now;
        let _running = Running(&self.code_time);
        code()
    }

    /// Notes that the code has heard, in this turn, that it is to end.
    pub fn report_heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Tells the dispatcher that the code has ended because it was asked to.
    pub fn report_cancelled(&self, reason: String) {
        self.cancelled.set(reason).ok();
    }

    /// Tells the dispatcher where the code does not match the history, for what it says of that.
    pub fn note_difference(&self, difference: Difference) {
        // The first one is the cause of the others.
        self.difference.set(difference).ok();
    }

    pub(super) fn difference(&self) -> Option<&Difference> {
        self.difference.get()
    }
}

/// When the code of a turn ran last. While it does, nobody can say that the lease is to go on.
#[derive(Debug, Default)]
pub(in crate::store) struct CodeTime(Mutex<Ran>);

#[derive(Debug, Default, Clone, Copy)]
enum Ran {
    #[default]
    Never,
    Now,
    Until(Instant),
}

impl CodeTime {
    /// When a lease ends that counts from the end of the code; `None` if no code ran, and `later` while it runs.
    pub fn lease_until(&self, lease: Duration, later: Instant) -> Option<Instant> {
        match *self.0.lock() {
            Ran::Never => None,
            Ran::Now => Some(later),
            Ran::Until(end) => Some(end + lease),
        }
    }
}

fn inherited_custom_status(item: &OrchestrationItem, history: &[Event]) -> Option<String> {
    let arriving = item.messages.iter().find_map(|message| match message {
        WorkItem::ContinueAsNew { initial_custom_status, .. } => Some(initial_custom_status.clone()),
        _ => None,
    });
    arriving.unwrap_or_else(|| match &started(history)?.kind {
        EventKind::OrchestrationStarted { initial_custom_status, .. } => initial_custom_status.clone(),
        _ => None,
    })
}

fn arrival(message: &WorkItem, execution: u64, time_ms: u64) -> Option<RecordedEvent> {
    let (source, kind) = match message {
        WorkItem::ActivityCompleted { execution_id, id, .. } | WorkItem::TimerFired { execution_id, id, .. }
            if *execution_id == execution =>
        {
            (Some(*id), RecordedKind::Succeeded)
        }
        WorkItem::ActivityFailed { execution_id, id, .. } if *execution_id == execution => {
            (Some(*id), RecordedKind::Failed)
        }
        WorkItem::SubOrchCompleted { parent_execution_id, parent_id, .. } if *parent_execution_id == execution => {
            (Some(*parent_id), RecordedKind::Succeeded)
        }
        WorkItem::SubOrchFailed { parent_execution_id, parent_id, .. } if *parent_execution_id == execution => {
            (Some(*parent_id), RecordedKind::Failed)
        }
        WorkItem::ExternalRaised { name, data, .. } => {
            (None, RecordedKind::Event { name: name.clone(), data: hash_data(data) })
        }
        WorkItem::QueueMessage { name, data, .. } => {
            (None, RecordedKind::Queue { name: name.clone(), data: hash_data(data) })
        }
        WorkItem::CancelInstance { .. } => (None, RecordedKind::Other),
        _ => return None,
    };
    Some(RecordedEvent::arriving(source, time_ms, kind))
}

/// The event that began the execution which `history` records.
pub(super) fn started(history: &[Event]) -> Option<&Event> {
    history.iter().find(|event| matches!(event.kind, EventKind::OrchestrationStarted { .. }))
}

/// A fetched instance, until it is acknowledged or abandoned.
pub(super) struct HeldTurn {
    pub record: Arc<TurnRecord>,
    /// As fetched, without the history of values: what is needed to end the instance without running it.
    pub parent: Option<ParentLink>,
    pub cancellation: Option<String>,
    pub history: Vec<Event>,
    task: Option<Id>,
}

/// Who waits for the end of a sub-orchestration.
#[derive(Debug, Clone)]
pub(super) struct ParentLink {
    pub instance: String,
    pub execution_id: Option<u64>,
    pub event_id: u64,
}

impl ParentLink {
    pub fn of(kind: &EventKind) -> Option<Self> {
        match kind {
            EventKind::OrchestrationStarted {
                parent_instance: Some(instance),
                parent_id: Some(event_id),
                parent_execution_id,
                ..
            } => Some(Self { instance: instance.clone(), execution_id: *parent_execution_id, event_id: *event_id }),
            _ => None,
        }
    }
}

/// The turns in progress: by lock token for the store, by task for the driver, which knows no token.
#[derive(Default)]
pub(super) struct Turns {
    table: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    by_token: HashMap<String, Arc<HeldTurn>>,
    by_task: HashMap<Id, Arc<TurnRecord>>,
}

impl Turns {
    pub fn publish(&self, token: &str, item: &OrchestrationItem, record: TurnRecord, cancellation: Option<String>) {
        let record = Arc::new(record);
        let task = tokio::task::try_id();
        let held = HeldTurn {
            record: Arc::clone(&record),
            parent: started(&item.history).and_then(|event| ParentLink::of(&event.kind)),
            cancellation,
            // Only a turn that can be cancelled by us needs its history again.
            history: Vec::new(),
            task,
        };
        let keep = held.cancellation.is_some() && record.persisted > 0;
        let held = if keep { HeldTurn { history: item.history.clone(), ..held } } else { held };
        let mut tables = self.table.lock();
        tables.by_token.insert(token.to_owned(), Arc::new(held));
        if let Some(task) = task {
            tables.by_task.insert(task, record);
        }
    }

    pub fn current(&self) -> Option<Arc<TurnRecord>> {
        self.table.lock().by_task.get(&tokio::task::try_id()?).cloned()
    }

    pub fn get(&self, token: &str) -> Option<Arc<HeldTurn>> {
        self.table.lock().by_token.get(token).cloned()
    }

    pub fn tokens(&self) -> Vec<String> {
        self.table.lock().by_token.keys().cloned().collect()
    }

    pub fn remove(&self, token: &str) {
        let mut tables = self.table.lock();
        if let Some(held) = tables.by_token.remove(token)
            && let Some(task) = held.task
            && tables.by_task.get(&task).is_some_and(|record| Arc::ptr_eq(record, &held.record))
        {
            tables.by_task.remove(&task);
        }
    }

    /// A task that fetches again has let go of its turn, even where the engine forgot to say so.
    pub fn forget_task(&self) {
        if let Some(task) = tokio::task::try_id() {
            let mut tables = self.table.lock();
            if let Some(record) = tables.by_task.remove(&task) {
                tables.by_token.retain(|_, held| !Arc::ptr_eq(&held.record, &record));
            }
        }
    }
}
