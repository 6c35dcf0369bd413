//! What a turn is told about the history and the messages that it runs on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use duroxide::providers::{OrchestrationItem, WorkItem};
use duroxide::{Event, EventKind};

use crate::cancellation;
use crate::nondeterminism::difference::Difference;
use crate::recorded::{RecordedEvent, RecordedKind, hash_data};
use crate::suspended::{Keeper, SuspendedState};
use store::clock::now_ms;
use store::code_time::CodeTime;
use store::history::started;

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
    pub cancelled: OnceLock<String>,
    /// Where, as the driver sees it, the code first did something else than history records.
    difference: OnceLock<Difference>,
    pub handover: SuspendedState,
    pub code_time: Arc<CodeTime>,
}

impl TurnRecord {
    pub fn new(item: &OrchestrationItem, attempt: u32, keeper: Option<&dyn Keeper>) -> Self {
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
            handover: SuspendedState::from(kept.map(|kept| kept.state)),
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
            handover: SuspendedState::default(),
        }
    }

    /// Runs the turn's code. In a store of this process the lease counts from its end.
    pub fn run<R>(&self, code: impl FnOnce() -> R) -> R {
        self.code_time.run(code)
    }

    /// Notes that the code has heard, in this turn, that it is to end.
    pub fn report_heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    pub fn has_heard(&self) -> bool {
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

    pub fn difference(&self) -> Option<&Difference> {
        self.difference.get()
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
