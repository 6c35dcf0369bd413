//! The operations of an orchestration, as plain data, and the node that describes one of them.
//!
//! A new operation needs an arm in each place of this table. The compiler names the places that match on every operation.
//!
//! | Place | What it decides | Operations with an arm |
//! | --- | --- | --- |
//! | [`Operation::describe`] | the words of error messages | every operation |
//! | [`Operation::bytes`] | the memory of its texts | every operation |
//! | `context` | the method that makes it | every operation |
//! | `Arena::start` | the slots that it starts with | every operation |
//! | `journal::begin` | the call of the engine | every operation |
//! | `compare::action_of` | the action that history records | every operation |
//! | [`Operation::children`], `values::children_of` | the tasks that it combines | `All`, `Gather`, `Race`, `Wait` |
//! | `Arena::finish` | when it ended, and the class of its failure | `Event`, `Queue`, `SubOrchestration` |
//! | `values::exception` | the exception of its failure | `Activity`, `SubOrchestration` |
//! | `Execution::wait_in_loop` | a check before it starts on an event loop | `ContinueAsNew` |
//! | `Execution::describe`, `unbegun_branches` | the coroutine that it runs | `Branch` |
//! | `Task::with_tag` | the tag | `Activity` |
//! | `task_fields` | the fields that the task is read by | every operation |
//!
//! In the engine adapter, `Action` names what history records, `recorded` the messages that arrive by name, and
//! `terminal_commit` the messages that an ended instance resolves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::boundary::codec::Decode;
use crate::boundary::origin::Origin;
use crate::orchestration::coroutines::Runner;
use crate::orchestration::retry_policy::RetryPolicy;

/// A request of an orchestration; nothing happens until it is started.
pub(crate) enum Operation {
    Activity(ActivityCall),
    SubOrchestration {
        name: String,
        version: Option<String>,
        instance_id: Option<String>,
        input: String,
        retry: Option<RetryPolicy>,
    },
    Start {
        name: String,
        version: Option<String>,
        instance_id: String,
        input: String,
    },
    Timer(Duration),
    Event(String),
    Queue(String),
    InstanceValue {
        instance_id: String,
        key: String,
    },
    ContinueAsNew {
        version: Option<String>,
        input: String,
    },
    All(Vec<Arc<Node>>),
    Gather(Vec<Arc<Node>>),
    Race(Vec<Arc<Node>>),
    /// A wait that keeps its tasks, until all have ended or the first one has.
    Wait {
        tasks: Vec<Arc<Node>>,
        until: WaitUntil,
    },
    /// A generator or coroutine that runs beside the one that started it.
    Branch(Arc<Runner>),
}

/// What ends a wait for several tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitUntil {
    FirstHasEnded,
    AllHaveEnded,
}

impl WaitUntil {
    /// The names that `asyncio.wait` takes.
    const NAMES: [(Self, &'static str); 2] =
        [(Self::FirstHasEnded, "FIRST_COMPLETED"), (Self::AllHaveEnded, "ALL_COMPLETED")];

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(until, _)| *until)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FirstHasEnded => Self::NAMES[0].1,
            Self::AllHaveEnded => Self::NAMES[1].1,
        }
    }
}

/// One activity, with everything that its retries need.
pub(crate) struct ActivityCall {
    pub(crate) name: String,
    pub(crate) input: String,
    pub(crate) session_id: Option<String>,
    pub(crate) tag: Tag,
    pub(crate) retry: Option<RetryPolicy>,
    /// Whether a task that is cancelled waits for the end of its activity.
    pub(crate) waits_for_end: bool,
}

/// The tag of an activity. Its task may change the tag until the activity starts.
#[derive(Default)]
pub(crate) struct Tag(Mutex<Option<Box<str>>>);

impl Tag {
    pub(crate) fn new(tag: Option<String>) -> Self {
        Self(Mutex::new(tag.map(String::into_boxed_str)))
    }

    pub(crate) fn set(&self, tag: &str) {
        *self.0.lock() = Some(tag.into());
    }

    pub(crate) fn get(&self) -> Option<Box<str>> {
        self.0.lock().clone()
    }

    fn bytes(&self) -> usize {
        self.0.lock().as_ref().map_or(0, |tag| tag.len())
    }
}

/// The id of an attempt of a sub-orchestration that was given an id. The instance of the attempt before has ended under
/// its id, and keeps it.
pub(crate) fn id_of_attempt(instance_id: &str, attempt: u32) -> String {
    if attempt == 1 { instance_id.to_owned() } else { format!("{instance_id}-attempt-{attempt}") }
}

impl Operation {
    /// The words for the operation in error messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Activity(call) => format!("activity '{}'", call.name),
            Self::SubOrchestration { name, .. } => format!("sub-orchestration '{name}'"),
            Self::Start { name, instance_id, .. } => format!("start of orchestration '{name}' as '{instance_id}'"),
            Self::Timer(delay) => format!("timer of {} ms", delay.as_millis()),
            Self::Event(name) => format!("wait for event '{name}'"),
            Self::Queue(name) => format!("wait for queue '{name}'"),
            Self::InstanceValue { instance_id, key } => format!("read of key '{key}' of instance '{instance_id}'"),
            Self::ContinueAsNew { .. } => "continue-as-new".to_owned(),
            Self::All(tasks) => format!("all of {} tasks", tasks.len()),
            Self::Gather(tasks) => format!("gather of {} tasks", tasks.len()),
            Self::Race(tasks) => format!("race of {} tasks", tasks.len()),
            Self::Wait { tasks, until: WaitUntil::FirstHasEnded } => {
                format!("wait for the first of {} tasks", tasks.len())
            }
            Self::Wait { tasks, until: WaitUntil::AllHaveEnded } => format!("wait for {} tasks", tasks.len()),
            Self::Branch(_) => "branch".to_owned(),
        }
    }

    /// About how much memory its texts take.
    pub(crate) fn bytes(&self) -> usize {
        let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        match self {
            Self::Activity(call) => call.name.len() + call.input.len() + of(&call.session_id) + call.tag.bytes(),
            Self::SubOrchestration { name, version, instance_id, input, .. } => {
                name.len() + of(version) + of(instance_id) + input.len()
            }
            Self::Start { name, version, instance_id, input } => {
                name.len() + of(version) + instance_id.len() + input.len()
            }
            Self::Event(name) | Self::Queue(name) => name.len(),
            Self::InstanceValue { instance_id, key } => instance_id.len() + key.len(),
            Self::ContinueAsNew { version, input } => of(version) + input.len(),
            Self::All(tasks) | Self::Gather(tasks) | Self::Race(tasks) | Self::Wait { tasks, .. } => {
                size_of_val(tasks.as_slice())
            }
            Self::Timer(_) | Self::Branch(_) => 0,
        }
    }

    pub(crate) fn children(&self) -> &[Arc<Node>] {
        match self {
            Self::All(tasks) | Self::Gather(tasks) | Self::Race(tasks) | Self::Wait { tasks, .. } => tasks,
            _ => &[],
        }
    }
}

const NOT_STARTED: usize = usize::MAX;

/// A described operation and, once it is started, its slot in the arena of its turn.
pub(crate) struct Node {
    pub(crate) operation: Operation,
    pub(crate) decode: Decode,
    /// The line that described it, for the warning when it is never started.
    pub(crate) origin: Option<Origin>,
    /// How many levels of combinators it has, itself included.
    pub(crate) depth: usize,
    /// Its place among all that its orchestration has described.
    pub(crate) number: usize,
    slot: AtomicUsize,
    replaced: AtomicBool,
}

impl Node {
    pub(crate) fn new(operation: Operation, decode: Decode, origin: Option<Origin>, number: usize) -> Arc<Self> {
        let depth = 1 + operation.children().iter().map(|child| child.depth).max().unwrap_or(0);
        Arc::new(Self {
            operation,
            depth,
            number,
            decode,
            origin,
            slot: AtomicUsize::new(NOT_STARTED),
            replaced: AtomicBool::new(false),
        })
    }

    pub(crate) fn slot(&self) -> Option<usize> {
        match self.slot.load(Ordering::Relaxed) {
            NOT_STARTED => None,
            slot => Some(slot),
        }
    }

    pub(crate) fn set_slot(&self, slot: usize) {
        debug_assert!(self.slot().is_none(), "a task starts once");
        self.slot.store(slot, Ordering::Relaxed);
    }

    /// Another task was made from this one and stands for it.
    pub(crate) fn set_replaced(&self) {
        self.replaced.store(true, Ordering::Relaxed);
    }

    /// Whether it was described and then forgotten.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.slot().is_none() && !self.replaced.load(Ordering::Relaxed)
    }
}
