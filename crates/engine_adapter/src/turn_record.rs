//! The record of a turn: the facts about its history and messages that the driver needs, and the driver's reports.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use duroxide::providers::{OrchestrationItem, WorkItem};
use duroxide::{Event, EventKind};

use crate::cancellation;
use crate::cancellation::CancelledEnd;
use crate::nondeterminism::mismatch_report::MismatchReport;
use crate::recorded::{RecordedEvent, RecordedKind, hash_data};
use crate::suspended::{SuspendedState, SuspendedTurn, SuspendedTurnCache};
use store::clock::now_ms;
use store::code_time::CodeTime;
use store::history::started;

/// The turn that a dispatcher's task runs.
pub struct TurnRecord {
    pub instance: String,
    /// The execution that the turn runs. After a continue-as-new the store does not have it yet.
    pub execution_id: u64,
    pub attempt: u32,
    /// The time of this turn, which all its events get.
    pub time_ms: u64,
    /// How many events of this execution are recorded before this turn.
    pub persisted: usize,
    /// When this execution started.
    pub started_ms: u64,
    /// How many of the recorded events the driver knows from an earlier turn, from which it continues.
    pub known_events: usize,
    /// The other recorded events in order, then the messages of this turn.
    pub events: Vec<RecordedEvent>,
    /// When the keys written by earlier executions were last set.
    pub kv_times: HashMap<String, u64>,
    /// The custom status that the last execution left.
    pub inherited_custom_status: Option<String>,
    /// Whether a request to cancel this execution reaches its code, as a message of `CANCELLATION_QUEUE`, instead of
    /// ending it. The first recorded action decides this for the whole execution; a new execution may choose.
    pub receives_cancellation: bool,
    /// Whether the code has received a request to cancel in this turn.
    received_cancellation: AtomicBool,
    /// How the code has ended because of the request, if it has.
    pub cancelled: OnceLock<CancelledEnd>,
    /// The first mismatch between code and history that the driver has found.
    mismatch: OnceLock<MismatchReport>,
    pub suspended: SuspendedState,
    pub code_time: Arc<CodeTime>,
}

impl TurnRecord {
    pub fn new(item: &OrchestrationItem, attempt: u32, suspended_turns: Option<&dyn SuspendedTurnCache>) -> Self {
        let carried = item.messages.iter().find_map(|message| match message {
            WorkItem::ContinueAsNew { carry_forward_events, .. } => Some(carry_forward_events.as_slice()),
            _ => None,
        });
        let history = if carried.is_some() { &[] } else { item.history.as_slice() };
        let execution_id = item.execution_id + u64::from(carried.is_some());
        let earlier =
            suspended_turns.and_then(|suspended_turns| suspended_turns.take(&item.instance)).filter(|earlier| {
                started(history).is_some_and(|event| earlier.fits(execution_id, event.timestamp_ms, history))
            });
        let known_events = earlier.as_ref().map_or(0, |earlier| earlier.known_events);
        // The time of an instance never goes backwards, whatever the clocks of its nodes say.
        let before = earlier.as_ref().map_or(0, |earlier| earlier.time_ms);
        let recorded = item.history.iter().skip(known_events).map(|event| event.timestamp_ms).max().unwrap_or(0);
        let time_ms = now_ms().max(recorded).max(before);
        let started_ms = started(history).map_or(time_ms, |event| event.timestamp_ms);

        let mut events: Vec<_> = history.iter().skip(known_events).map(RecordedEvent::recorded).collect();
        // The engine delivers the messages that were carried over before all other messages of the turn.
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
            known_events,
            events,
            kv_times,
            inherited_custom_status: inherited_custom_status(item, history),
            receives_cancellation: history.is_empty() || cancellation::is_subscribed(history),
            received_cancellation: AtomicBool::new(false),
            cancelled: OnceLock::new(),
            mismatch: OnceLock::new(),
            code_time: Arc::default(),
            suspended: SuspendedState::from(earlier.map(|earlier| earlier.state)),
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
            known_events: 0,
            events: Vec::new(),
            kv_times: HashMap::new(),
            inherited_custom_status: None,
            receives_cancellation: true,
            received_cancellation: AtomicBool::new(false),
            cancelled: OnceLock::new(),
            mismatch: OnceLock::new(),
            code_time: Arc::default(),
            suspended: SuspendedState::default(),
        }
    }

    /// Runs the turn's code, and records when it ends. On SQLite and in memory the lease counts from that time.
    pub fn run<R>(&self, code: impl FnOnce() -> R) -> R {
        self.code_time.run(code)
    }

    /// Notes that the code has received a request to cancel in this turn.
    pub fn report_cancellation_received(&self) {
        self.received_cancellation.store(true, Ordering::Relaxed);
    }

    pub fn has_received_cancellation(&self) -> bool {
        self.received_cancellation.load(Ordering::Relaxed)
    }

    /// Reports to the dispatcher that the code has ended because of a request to cancel.
    pub fn report_cancelled(&self, end: CancelledEnd) {
        self.cancelled.set(end).ok();
    }

    /// Reports to the dispatcher where the code does not match the history.
    pub fn report_mismatch(&self, mismatch: MismatchReport) {
        // Only the first mismatch counts, since it causes the others.
        self.mismatch.set(mismatch).ok();
    }

    /// The turn that the driver has suspended, if its commit adds the events `added`.
    pub fn suspended_turn(&self, added: &[Event]) -> Option<SuspendedTurn> {
        let last = added.last()?.clone();
        let (state, bytes) = self.suspended.take_left()?;
        Some(SuspendedTurn {
            instance: self.instance.clone(),
            execution_id: self.execution_id,
            started_ms: self.started_ms,
            time_ms: self.time_ms,
            known_events: self.persisted,
            length: self.persisted + added.len(),
            last,
            bytes,
            state,
        })
    }

    pub fn mismatch(&self) -> Option<&MismatchReport> {
        self.mismatch.get()
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
