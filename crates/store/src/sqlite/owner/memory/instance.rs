//! One instance in memory: its messages, its leased turn, its history, and its record in the file.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use duroxide::providers::WorkItem;

use crate::clock::now_ms;
use crate::code_time::CodeTime;
use crate::flow_control::MessageGate;
use crate::sqlite::owner::disk::change::Change;
use crate::sqlite::owner::memory::ids::{History, Number, Sequence, Token, Version};
use crate::start::{End, ExistingInstance};

pub struct Message {
    pub sequence: Sequence,
    /// Boxed, since queues and maps reserve room for more entries than they have.
    pub item: Box<WorkItem>,
    pub attempts: u32,
    /// The owner loaded the message when it opened the file. The message may have killed the process before, so each
    /// attempt is written before it begins.
    pub is_loaded: bool,
}

impl Message {
    pub fn is_start(&self) -> bool {
        matches!(*self.item, WorkItem::StartOrchestration { .. })
    }
}

/// A turn that a dispatcher has fetched, with its lease.
pub struct TurnLease {
    pub token: Token,
    pub until: Instant,
    pub since: Instant,
    /// The writer thread has the end of the turn. The lease no longer ends.
    pub is_ending: bool,
    /// The length of the lease.
    pub lease: Duration,
    /// The time in which the turn's code runs. Its thread renews no lease then, so the lease counts from the end of the
    /// code.
    pub code_time: Option<Arc<CodeTime>>,
    pub taken: Vec<Message>,
    /// The attempts of its messages are on the disk, or the writer thread has them.
    pub is_attempt_recorded: bool,
    /// Whether the delivery counts as an attempt of its messages.
    pub counts: bool,
}

impl TurnLease {
    /// When the lease ends. Returns `next_check` while that is unknown.
    pub fn ends(&self, next_check: Instant) -> Instant {
        if self.is_ending {
            return next_check;
        }
        let until = self.code_time.as_ref().and_then(|code_time| code_time.lease_until(self.lease, next_check));
        until.map_or(self.until, |until| until.max(self.until))
    }
}

/// The record of an instance in the file.
#[derive(Clone, Default)]
pub struct RecordedInstance {
    pub orchestration: Option<Arc<str>>,
    pub version: Option<Arc<str>>,
    /// The orchestration of a start that waits for the first turn of the current execution.
    pub starting: Option<Arc<str>>,
    pub execution: u64,
    /// The newest execution that has a row.
    pub recorded_execution: u64,
    /// The version of the engine to which the current execution is pinned.
    pub pinned: Option<Version>,
    /// How it has ended.
    pub end: Option<End>,
    pub has_kv: bool,
    /// The instance waits for code that can run it, and the file has the mismatch report.
    pub has_mismatch: bool,
}

/// Keeps the entry of an instance in memory, unless the instance is deleted.
pub struct Pin {
    _held: Arc<()>,
}

pub struct Instance {
    pub id: Arc<str>,
    /// `None` until it was read from the file.
    pub record: Option<RecordedInstance>,
    /// The instance has a row in the file, or the writer thread has one.
    pub has_row: bool,
    /// Lives while an operation holds a [`Pin`] of this entry.
    pin: Weak<()>,
    pub queue: VecDeque<Message>,
    pub delayed: BTreeMap<Sequence, Message>,
    /// Messages that a turn gave back for later. Together with an earlier message they return sooner, and no later
    /// message overtakes them.
    pub put_off: BTreeMap<Sequence, Message>,
    pub leased: Option<TurnLease>,
    pub is_ready: bool,
    /// How many of its activities wait or run.
    pub activities: usize,
    /// The events of the current execution that are on the disk; `None` if they are not in memory.
    pub history: Option<History>,
    pub gate: Option<MessageGate>,
    /// When the instance was last used, as a count.
    pub last_used: u64,
}

impl Instance {
    pub fn new(id: Arc<str>) -> Self {
        Self {
            id,
            record: None,
            has_row: false,
            pin: Weak::new(),
            queue: VecDeque::new(),
            delayed: BTreeMap::new(),
            put_off: BTreeMap::new(),
            leased: None,
            is_ready: false,
            activities: 0,
            history: None,
            gate: None,
            last_used: 0,
        }
    }

    /// Sets the record that was read from the file.
    pub fn set_record(&mut self, record: RecordedInstance) {
        if record.recorded_execution == 0 {
            self.gate = Some(MessageGate::default());
            self.history = Some(History::default());
        }
        self.record = Some(record);
        self.has_row = true;
    }

    pub fn exists(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.orchestration.is_some())
    }

    pub fn has_ended(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.end.is_some())
    }

    pub fn execution(&self) -> u64 {
        self.record.as_ref().map_or(duroxide::INITIAL_EXECUTION_ID, |record| record.execution)
    }

    /// The orchestration that the instance runs, or that a waiting start will run.
    pub fn running(&self) -> Option<Arc<str>> {
        let record = self.record.as_ref()?;
        record.orchestration.clone().or_else(|| record.starting.clone())
    }

    /// Whether the messages for its next turn contain the beginning of an execution.
    pub fn has_beginning(&self) -> bool {
        self.put_off.values().chain(&self.queue).any(|message| {
            matches!(*message.item, WorkItem::StartOrchestration { .. } | WorkItem::ContinueAsNew { .. })
        })
    }

    pub fn has_history(&self) -> bool {
        // A history that is not in memory may be in the file.
        self.history.as_ref().is_none_or(|history| !history.lock().is_empty())
    }

    /// The instance, for the decision about a start. An instance that has ended counts as running while another start
    /// waits, which the engine will answer.
    pub fn existing(&self) -> Option<ExistingInstance<Arc<str>>> {
        let orchestration = self.running()?;
        let record = self.record.as_ref()?;
        let waits = self.leased.is_some() || self.waiting_messages().any(Message::is_start);
        Some(ExistingInstance { orchestration, end: record.end.filter(|_| !waits) })
    }

    /// Begins a new execution of an instance that has ended. The caller must write the returned change. `None` if it has
    /// not ended.
    pub fn restart(&mut self, number: Number) -> Option<Change> {
        let record = self.record.as_mut().filter(|record| record.end.is_some())?;
        let orchestration = record.orchestration.clone()?;
        let execution = record.execution + 1;
        *record = RecordedInstance {
            orchestration: record.orchestration.take(),
            version: record.version.take(),
            starting: Some(orchestration),
            execution,
            recorded_execution: execution,
            ..RecordedInstance::default()
        };
        self.gate = Some(MessageGate::default());
        self.history = Some(History::default());
        Some(Change::Restart { number, execution, restarted_ms: now_ms() })
    }

    /// Whether the instance can take a turn once it has messages. An instance whose start is not due cannot.
    pub fn can_run(&self) -> bool {
        if self.awaits_start() {
            return self.has_beginning();
        }
        self.exists() || self.has_beginning() || self.has_history()
    }

    /// Whether the instance has begun before, and its current execution has not.
    pub fn awaits_start(&self) -> bool {
        self.exists() && self.record.as_ref().is_some_and(|record| record.starting.is_some())
    }

    fn waiting_messages(&self) -> impl Iterator<Item = &Message> {
        self.queue.iter().chain(self.delayed.values()).chain(self.put_off.values())
    }

    /// Adds a visible message to the queue. The instance reads a start before all other messages, since an event may
    /// arrive before the start. Of several starts the first counts.
    pub fn enqueue(&mut self, message: Message) {
        if message.is_start() && (!self.exists() || self.awaits_start()) {
            let place = self.queue.iter().take_while(|earlier| earlier.is_start()).count();
            self.queue.insert(place, message);
        } else {
            self.queue.push_back(message);
        }
    }

    /// The change that inserts the row of the instance. It must come before other rows of the instance. `None` if there
    /// is a row.
    pub fn make_row(&mut self, number: Number, starting: Option<Arc<str>>) -> Option<Change> {
        if std::mem::replace(&mut self.has_row, true) {
            return None;
        }
        Some(Change::Instance { number, id: Arc::clone(&self.id), starting, created_ms: now_ms() })
    }

    /// Removes the note of a waiting start that was not written.
    pub fn forget_start(&mut self) {
        let is_started = self.leased.is_some() || self.waiting_messages().any(Message::is_start);
        if !is_started && let Some(record) = &mut self.record {
            record.starting = None;
        }
    }

    /// How many messages no turn has taken.
    pub fn waiting(&self) -> usize {
        self.queue.len() + self.delayed.len() + self.put_off.len()
    }

    /// How many of its timers are not due.
    pub fn timers(&self) -> usize {
        self.delayed.values().filter(|message| matches!(*message.item, WorkItem::TimerFired { .. })).count()
    }

    /// Keeps the entry in memory until the pin is dropped.
    pub fn pin(&mut self) -> Pin {
        let pin = self.pin.upgrade().unwrap_or_default();
        self.pin = Arc::downgrade(&pin);
        Pin { _held: pin }
    }

    pub fn is_pinned(&self) -> bool {
        self.pin.strong_count() > 0
    }

    /// Whether the entry can leave memory, since the file has the same content.
    pub fn is_idle(&self) -> bool {
        !self.is_pinned()
            && self.activities == 0
            && self.queue.is_empty()
            && self.delayed.is_empty()
            && self.put_off.is_empty()
            && self.leased.is_none()
    }
}
