//! What is held in memory of one instance: its messages, the turn that somebody runs, and what the file says of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::providers::WorkItem;

use crate::clock::now_ms;
use crate::code_time::CodeTime;
use crate::flow_control::MessageGate;
use crate::sqlite::owner::disk::change::Change;
use crate::sqlite::owner::memory::ids::{History, Number, Sequence, Token, Version};

pub struct Message {
    pub sequence: Sequence,
    /// Boxed, since queues and maps make room for more entries than they have.
    pub item: Box<WorkItem>,
    pub attempts: u32,
    /// It was found when the file was opened: the process that had it may have died of it, so each further attempt is written
    /// before it is made.
    pub is_found: bool,
}

/// A turn that somebody runs.
pub struct Held {
    pub token: Token,
    pub until: Instant,
    pub since: Instant,
    /// Its end is on the way to the disk, and its lease no longer ends.
    pub is_ending: bool,
    /// How long the lease is.
    pub lease: Duration,
    /// When its code ran, on a thread that then renews nothing: the lease counts from its end.
    pub code_time: Option<Arc<CodeTime>>,
    pub taken: Vec<Message>,
    /// Its attempts are on the disk, or on their way.
    pub is_noted: bool,
}

impl Held {
    /// When the lease ends, looked at again `later` where that cannot be told yet.
    pub fn ends(&self, later: Instant) -> Instant {
        if self.is_ending {
            return later;
        }
        let until = self.code_time.as_ref().and_then(|code_time| code_time.lease_until(self.lease, later));
        until.map_or(self.until, |until| until.max(self.until))
    }
}

/// What the file says of an instance.
#[derive(Clone, Default)]
pub struct Known {
    pub orchestration: Option<Arc<str>>,
    pub version: Option<Arc<str>>,
    /// The orchestration of a start that waits for its first turn.
    pub starting: Option<Arc<str>>,
    pub execution: u64,
    /// The newest execution that has a row.
    pub recorded_execution: u64,
    /// The version of the engine that the execution is pinned to.
    pub pinned: Option<Version>,
    pub has_ended: bool,
    pub has_kv: bool,
    /// It waits for code that can run it, and its row says why.
    pub has_mismatch: bool,
}

pub struct Instance {
    pub id: Arc<str>,
    /// `None` until the file was asked.
    pub known: Option<Known>,
    /// It has a row in the file, or one is on its way.
    pub has_row: bool,
    /// OwnerSession under way that counts on this entry.
    pub pins: u32,
    pub queue: VecDeque<Message>,
    pub delayed: BTreeMap<Sequence, Message>,
    /// Given back to be handed out later, or with what comes before: nothing overtakes it.
    pub put_off: BTreeMap<Sequence, Message>,
    pub held: Option<Held>,
    pub is_ready: bool,
    /// How many of its activities are waiting or running.
    pub activities: usize,
    /// The current execution, as far as it is on the disk; `None` when it was not read or left memory.
    pub history: Option<History>,
    pub mail: Option<MessageGate>,
    pub used: u64,
}

impl Instance {
    pub fn new(id: Arc<str>) -> Self {
        Self {
            id,
            known: None,
            has_row: false,
            pins: 0,
            queue: VecDeque::new(),
            delayed: BTreeMap::new(),
            put_off: BTreeMap::new(),
            held: None,
            is_ready: false,
            activities: 0,
            history: None,
            mail: None,
            used: 0,
        }
    }

    /// Takes in what the file says.
    pub fn know(&mut self, known: Known) {
        if known.recorded_execution == 0 {
            self.mail = Some(MessageGate::default());
            self.history = Some(History::default());
        }
        self.known = Some(known);
        self.has_row = true;
    }

    pub fn exists(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.orchestration.is_some())
    }

    pub fn has_ended(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.has_ended)
    }

    pub fn execution(&self) -> u64 {
        self.known.as_ref().map_or(duroxide::INITIAL_EXECUTION_ID, |known| known.execution)
    }

    /// The orchestration that it runs, or that a waiting start will run.
    pub fn running(&self) -> Option<Arc<str>> {
        let known = self.known.as_ref()?;
        known.orchestration.clone().or_else(|| known.starting.clone())
    }

    pub fn begins(&self) -> bool {
        self.queue.iter().any(|message| {
            matches!(*message.item, WorkItem::StartOrchestration { .. } | WorkItem::ContinueAsNew { .. })
        })
    }

    pub fn has_history(&self) -> bool {
        // What was not read may be there.
        self.history.as_ref().is_none_or(|history| !history.lock().is_empty())
    }

    /// The row that it needs in the file before anything else there names it; `None` if it has one.
    pub fn make_row(&mut self, number: Number, starting: Option<Arc<str>>) -> Option<Change> {
        if std::mem::replace(&mut self.has_row, true) {
            return None;
        }
        Some(Change::Instance { number, id: Arc::clone(&self.id), starting, created_ms: now_ms() })
    }

    /// Takes back that it will run, when the start was not written.
    pub fn forget_start(&mut self) {
        let mut waiting = self.queue.iter().chain(self.delayed.values()).chain(self.put_off.values());
        let is_started =
            self.held.is_some() || waiting.any(|message| matches!(*message.item, WorkItem::StartOrchestration { .. }));
        if !is_started && let Some(known) = &mut self.known {
            known.starting = None;
        }
    }

    /// How many messages nobody has taken.
    pub fn waiting(&self) -> usize {
        self.queue.len() + self.delayed.len() + self.put_off.len()
    }

    /// Whether nothing needs this entry: all there is to know is in the file.
    pub fn is_idle(&self) -> bool {
        self.pins == 0
            && self.activities == 0
            && self.queue.is_empty()
            && self.delayed.is_empty()
            && self.put_off.is_empty()
            && self.held.is_none()
    }
}
