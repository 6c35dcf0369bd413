//! Every call that an orchestration makes to the engine goes through its journal, which remembers them in order.
//!
//! The engine has a new context for every turn and knows nothing of the one before. A suspended orchestration goes on
//! without running its code again: the journal makes the same calls once more, and takes the same results, up to where
//! the code stands. A future that it expects to be ready may become ready at a later poll, as it did for the code.

use std::future::Future as _;
use std::mem::{self, size_of};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use duroxide::{DurableFuture, OrchestrationContext};
use engine_adapter::AttemptHeader;

use crate::orchestration::arena::slot::{Failure, Outcome, Slot};
use crate::orchestration::operation::{ActivityCall, Operation, id_of_attempt};

/// The engine's activity that reads a value of another instance.
pub(crate) const READ_VALUE: &str = "__duroxide_syscall:get_kv_value";

/// A future of the engine. Its own `map` is not used: it never gives the context back that it was made from.
enum Leaf {
    Answer(DurableFuture<Result<String, String>>),
    Message(DurableFuture<String>),
    Timer(DurableFuture<()>),
}

impl Leaf {
    /// Looks once; the engine's futures need no waker.
    fn look(&mut self) -> Poll<Result<String, String>> {
        let mut context = Context::from_waker(Waker::noop());
        match self {
            Self::Answer(future) => Pin::new(future).poll(&mut context),
            Self::Message(future) => Pin::new(future).poll(&mut context).map(Ok),
            Self::Timer(future) => Pin::new(future).poll(&mut context).map(|()| Ok(String::new())),
        }
    }
}

/// A call that has no result and no slot.
pub(crate) enum Effect {
    SetStatus(Option<String>),
    SetValue { key: String, value: String },
    ClearValue(String),
    ClearValues,
}

impl Effect {
    fn happen(&self, engine: &OrchestrationContext) {
        match self {
            Self::SetStatus(Some(status)) => engine.set_custom_status(status.as_str()),
            Self::SetStatus(None) => engine.reset_custom_status(),
            Self::SetValue { key, value } => engine.set_kv_value(key.as_str(), value.as_str()),
            Self::ClearValue(key) => engine.clear_kv_value(key.as_str()),
            Self::ClearValues => engine.clear_all_kv_values(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::SetStatus(status) => status.as_ref().map_or(0, String::len),
            Self::SetValue { key, value } => key.len() + value.len(),
            Self::ClearValue(key) => key.len(),
            Self::ClearValues => 0,
        }
    }
}

enum Entry {
    /// The operation of the slot was started. For a retried activity, that is an attempt without header.
    Started(usize),
    /// An attempt of the activity of the slot was started, with its header.
    Attempt {
        slot: usize,
        header: AttemptHeader,
    },
    /// An attempt of the sub-orchestration of the slot was started, with this number.
    Child {
        slot: usize,
        attempt: u32,
    },
    /// A timer of a retry, which its task does not describe.
    Timer {
        slot: usize,
        delay: Duration,
    },
    /// The future of the slot was ready, with the slot's outcome.
    Ended(usize),
    /// The future of the slot was dropped before that, which cancels what it waits for.
    Dropped(usize),
    Effect(Box<Effect>),
}

/// How far a journal has come in catching up with its code.
pub(crate) enum CatchUpProgress {
    /// The engine must give more of its history first.
    Waits,
    CaughtUp,
    /// This history is not the one that the code has seen.
    Differs(String),
}

pub(super) struct Journal {
    engine: OrchestrationContext,
    /// By slot; only those that have not ended.
    leaves: Vec<Option<Leaf>>,
    entries: Vec<Entry>,
    /// How many entries the engine's context has seen.
    repeated: usize,
    bytes: usize,
}

impl Journal {
    pub(super) fn new(engine: OrchestrationContext) -> Self {
        Self { engine, leaves: Vec::new(), entries: Vec::new(), repeated: 0, bytes: 0 }
    }

    pub(super) fn engine(&self) -> &OrchestrationContext {
        &self.engine
    }

    /// About how much memory the entries take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.entries.len() * size_of::<Entry>()
    }

    fn note(&mut self, entry: Entry) {
        self.entries.push(entry);
        self.repeated = self.entries.len();
    }

    fn put(&mut self, slot: usize, leaf: Leaf) {
        if self.leaves.len() <= slot {
            self.leaves.resize_with(slot + 1, || None);
        }
        debug_assert!(self.leaves[slot].is_none(), "slot {slot} has a future already");
        self.leaves[slot] = Some(leaf);
    }

    /// Starts an operation for the slot that it has been given.
    pub(super) fn start(&mut self, slot: usize, operation: &Operation) {
        if let Some(leaf) = begin(&self.engine, operation) {
            self.put(slot, leaf);
        }
        self.note(Entry::Started(slot));
    }

    /// Starts an attempt of an activity with its header.
    pub(super) fn start_attempt(&mut self, slot: usize, operation: &Operation, header: AttemptHeader) {
        if let Some(leaf) = begin_attempt(&self.engine, operation, header) {
            self.put(slot, leaf);
        }
        self.note(Entry::Attempt { slot, header });
    }

    /// Starts an attempt of a sub-orchestration.
    pub(super) fn start_child(&mut self, slot: usize, operation: &Operation, attempt: u32) {
        if let Some(leaf) = begin_child(&self.engine, operation, attempt) {
            self.put(slot, leaf);
        }
        self.note(Entry::Child { slot, attempt });
    }

    pub(super) fn start_timer(&mut self, slot: usize, delay: Duration) {
        let leaf = Leaf::Timer(self.engine.schedule_timer(delay));
        self.put(slot, leaf);
        self.note(Entry::Timer { slot, delay });
    }

    /// Looks once whether the future of a slot is ready, and lets go of it if it is.
    pub(super) fn look(&mut self, slot: usize) -> Poll<Result<String, String>> {
        let Some(place) = self.leaves.get_mut(slot) else { return Poll::Pending };
        let Some(Poll::Ready(result)) = place.as_mut().map(Leaf::look) else { return Poll::Pending };
        *place = None;
        self.note(Entry::Ended(slot));
        Poll::Ready(result)
    }

    /// Gives up what a slot waits for.
    pub(super) fn drop_leaf(&mut self, slot: usize) {
        if self.leaves.get_mut(slot).and_then(Option::take).is_some() {
            self.note(Entry::Dropped(slot));
        }
    }

    pub(super) fn happen(&mut self, effect: Effect) {
        effect.happen(&self.engine);
        self.bytes += size_of::<Effect>() + effect.bytes();
        self.note(Entry::Effect(Box::new(effect)));
    }

    /// Lets go of the engine's context, which ends with its turn, and of its futures, in the order of their slots.
    pub(super) fn suspend(&mut self, idle: OrchestrationContext) {
        debug_assert_eq!(self.repeated, self.entries.len(), "the code has run ahead of its journal");
        drop(mem::take(&mut self.leaves));
        self.engine = idle;
    }

    /// Forgets everything, futures first.
    pub(super) fn clear(&mut self) {
        self.leaves = Vec::new();
        self.entries = Vec::new();
        self.repeated = 0;
    }

    /// Begins to catch up on the context of a new turn.
    pub(super) fn resume(&mut self, engine: OrchestrationContext, slots: usize) {
        debug_assert!(self.leaves.is_empty(), "futures of the turn before are left");
        self.engine = engine;
        self.leaves.resize_with(slots, || None);
        self.repeated = 0;
    }

    /// Repeats entries until one of them needs more history than there is at this poll.
    pub(super) fn catch_up(&mut self, slots: &[Slot]) -> CatchUpProgress {
        while let Some(entry) = self.entries.get(self.repeated) {
            match entry {
                Entry::Started(slot) => self.leaves[*slot] = begin(&self.engine, &slots[*slot].node.operation),
                Entry::Attempt { slot, header } => {
                    self.leaves[*slot] = begin_attempt(&self.engine, &slots[*slot].node.operation, *header);
                }
                Entry::Child { slot, attempt } => {
                    self.leaves[*slot] = begin_child(&self.engine, &slots[*slot].node.operation, *attempt);
                }
                Entry::Timer { slot, delay } => {
                    self.leaves[*slot] = Some(Leaf::Timer(self.engine.schedule_timer(*delay)));
                }
                Entry::Ended(slot) => {
                    let Some(Poll::Ready(result)) = self.leaves[*slot].as_mut().map(Leaf::look) else {
                        return CatchUpProgress::Waits;
                    };
                    self.leaves[*slot] = None;
                    let seen = slots[*slot].done.as_ref().and_then(|(outcome, _)| text_of(outcome));
                    if seen != Some(result.as_deref().map_err(String::as_str)) {
                        let what = slots[*slot].node.operation.describe();
                        return CatchUpProgress::Differs(format!("{what} has another result than before"));
                    }
                }
                Entry::Dropped(slot) => self.leaves[*slot] = None,
                Entry::Effect(effect) => effect.happen(&self.engine),
            }
            self.repeated += 1;
        }
        debug_assert_eq!(self.repeated, self.entries.len());
        CatchUpProgress::CaughtUp
    }
}

/// The result of the future of a slot.
fn text_of(outcome: &Outcome) -> Option<Result<&str, &str>> {
    match outcome {
        Outcome::Text(text) => Some(Ok(text)),
        Outcome::Failed(Failure::Activity { text, .. } | Failure::SubOrchestration { text, .. }) => Some(Err(text)),
        _ => None,
    }
}

/// Starts an operation in the engine. An operation that is made of several slots has no future.
fn begin(engine: &OrchestrationContext, operation: &Operation) -> Option<Leaf> {
    Some(match operation {
        Operation::Activity(call) => Leaf::Answer(begin_activity(engine, call, &call.input)),
        Operation::SubOrchestration { .. } => return begin_child(engine, operation, 1),
        Operation::Start { name, version, instance_id, input } => {
            match version {
                Some(version) => {
                    engine.schedule_orchestration_versioned(name, Some(version.clone()), instance_id, input);
                }
                None => engine.schedule_orchestration(name, instance_id, input),
            }
            return None;
        }
        Operation::Timer(delay) => Leaf::Timer(engine.schedule_timer(*delay)),
        Operation::Event(name) => Leaf::Message(engine.schedule_wait(name)),
        Operation::Queue(name) => Leaf::Message(engine.dequeue_event(name)),
        Operation::InstanceValue { instance_id, key } => {
            Leaf::Answer(engine.schedule_activity(READ_VALUE, read_value_input(instance_id, key)))
        }
        Operation::ContinueAsNew { version, input } => {
            // The future only says that nothing follows; the action is emitted by the call.
            match version {
                Some(version) => drop(engine.continue_as_new_versioned(version, input)),
                None => drop(engine.continue_as_new(input)),
            }
            return None;
        }
        Operation::All(_)
        | Operation::Gather(_)
        | Operation::Race(_)
        | Operation::Wait { .. }
        | Operation::Branch(_) => return None,
    })
}

/// The input as the engine's own method records it. That method would map the future.
pub(crate) fn read_value_input(instance_id: &str, key: &str) -> String {
    serde_json::json!({ "instance_id": instance_id, "key": key }).to_string()
}

fn begin_attempt(engine: &OrchestrationContext, operation: &Operation, header: AttemptHeader) -> Option<Leaf> {
    let Operation::Activity(call) = operation else { return None };
    Some(Leaf::Answer(begin_activity(engine, call, &header.before(&call.input))))
}

fn begin_child(engine: &OrchestrationContext, operation: &Operation, attempt: u32) -> Option<Leaf> {
    let Operation::SubOrchestration { name, version, instance_id, input, .. } = operation else { return None };
    Some(Leaf::Answer(match instance_id {
        Some(instance_id) => {
            let instance_id = id_of_attempt(instance_id, attempt);
            engine.schedule_sub_orchestration_versioned_with_id(name, version.clone(), instance_id, input)
        }
        None => engine.schedule_sub_orchestration_versioned(name, version.clone(), input),
    }))
}

fn begin_activity(
    engine: &OrchestrationContext,
    call: &ActivityCall,
    input: &str,
) -> DurableFuture<Result<String, String>> {
    let future = match &call.session_id {
        Some(session_id) => engine.schedule_activity_on_session(&call.name, input, session_id),
        None => engine.schedule_activity(&call.name, input),
    };
    // The engine aborts the process when a tag is set after its actions were drained, so it is set here.
    match call.tag.get() {
        Some(tag) => future.with_tag(tag),
        None => future,
    }
}
