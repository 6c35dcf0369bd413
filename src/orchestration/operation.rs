//! What an orchestration can ask for, as plain data, and the task that describes one such request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use engine_adapter::Place;
use pyo3::prelude::*;
use serde::Deserialize;

use crate::boundary::codec::Decode;
use crate::boundary::origin::Origin;
use crate::boundary::python::{GET_LINE, RETRY_PARTS};
use crate::orchestration::execution::Turn;

/// A request of an orchestration; nothing happens until it is started.
pub(crate) enum Operation {
    Activity(ActivityCall),
    SubOrchestration {
        name: String,
        version: Option<String>,
        instance_id: Option<String>,
        input: String,
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
    /// A generator or coroutine that runs beside the one that started it.
    Branch(Arc<Py<PyAny>>),
}

/// One activity, with everything that its retries need.
#[derive(Clone)]
pub(crate) struct ActivityCall {
    pub(crate) name: String,
    pub(crate) input: String,
    pub(crate) session_id: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) retry: Option<RetryPolicy>,
}

impl Operation {
    /// What the request is, in the words of an error message.
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
            Self::Branch(_) => "branch".to_owned(),
        }
    }

    /// About how much memory its texts take.
    pub(crate) fn bytes(&self) -> usize {
        let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        match self {
            Self::Activity(call) => call.name.len() + call.input.len() + of(&call.session_id) + of(&call.tag),
            Self::SubOrchestration { name, version, instance_id, input } => {
                name.len() + of(version) + of(instance_id) + input.len()
            }
            Self::Start { name, version, instance_id, input } => {
                name.len() + of(version) + instance_id.len() + input.len()
            }
            Self::Event(name) | Self::Queue(name) => name.len(),
            Self::InstanceValue { instance_id, key } => instance_id.len() + key.len(),
            Self::ContinueAsNew { version, input } => of(version) + input.len(),
            Self::All(tasks) | Self::Gather(tasks) | Self::Race(tasks) => size_of_val(tasks.as_slice()),
            Self::Timer(_) | Self::Branch(_) => 0,
        }
    }

    pub(crate) fn children(&self) -> &[Arc<Node>] {
        match self {
            Self::All(tasks) | Self::Gather(tasks) | Self::Race(tasks) => tasks,
            _ => &[],
        }
    }
}

const NOT_STARTED: usize = usize::MAX;

/// A described operation and, once it is started, its slot in the arena of its turn.
pub(crate) struct Node {
    pub(crate) operation: Operation,
    pub(crate) decode: Decode,
    pub(crate) turn: Arc<Turn>,
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
    pub(crate) fn new(
        operation: Operation,
        decode: Decode,
        turn: Arc<Turn>,
        origin: Option<Origin>,
        number: usize,
    ) -> Arc<Self> {
        let depth = 1 + operation.children().iter().map(|child| child.depth).max().unwrap_or(0);
        Arc::new(Self {
            operation,
            depth,
            number,
            decode,
            turn,
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

/// How the wait grows from attempt to attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Backoff {
    None,
    Fixed { delay: Duration },
    Linear { base: Duration, maximum: Duration },
    Exponential { base: Duration, multiplier: f64, maximum: Duration },
}

impl Backoff {
    /// The wait after the failure of attempt number `attempt`, counted from 1.
    pub(crate) fn delay(&self, attempt: u32) -> Duration {
        match *self {
            Self::None => Duration::ZERO,
            Self::Fixed { delay } => delay,
            Self::Linear { base, maximum } => base.saturating_mul(attempt).min(maximum),
            Self::Exponential { base, multiplier, maximum } => {
                let factor = multiplier.powi(i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX));
                Duration::try_from_secs_f64(base.as_secs_f64() * factor).unwrap_or(maximum).min(maximum)
            }
        }
    }
}

/// How often an activity is tried, how long, and what is not tried again.
#[derive(Clone, Debug)]
pub(crate) struct RetryPolicy {
    pub(crate) max_attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) total_timeout: Option<Duration>,
    pub(crate) non_retryable: Vec<String>,
}

type Parts = (u32, String, u64, f64, u64, Option<u64>, Option<u64>, Vec<String>);

impl RetryPolicy {
    /// Reads a `RetryPolicy` or the documented dictionary; Python checks it and gives its parts.
    pub(crate) fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        if value.is_none() {
            return Ok(None);
        }
        let parts = RETRY_PARTS.call(value.py(), (value,))?;
        let (max_attempts, kind, base_ms, multiplier, max_ms, attempt_ms, total_ms, non_retryable): Parts =
            parts.extract()?;
        let base = Duration::from_millis(base_ms);
        let maximum = Duration::from_millis(max_ms);
        let backoff = match kind.as_str() {
            "fixed" => Backoff::Fixed { delay: base },
            "linear" => Backoff::Linear { base, maximum },
            "exponential" => Backoff::Exponential { base, multiplier, maximum },
            _ => Backoff::None,
        };
        Ok(Some(Self {
            max_attempts,
            backoff,
            attempt_timeout: attempt_ms.map(Duration::from_millis),
            total_timeout: total_ms.map(Duration::from_millis),
            non_retryable,
        }))
    }

    pub(crate) fn retries(&self, failure: &str) -> bool {
        #[derive(Deserialize)]
        struct Recorded {
            #[serde(rename = "type")]
            error_type: Option<String>,
            retryable: Option<bool>,
        }
        match serde_json::from_str::<Recorded>(failure) {
            Ok(recorded) => {
                recorded.retryable != Some(false)
                    && !recorded.error_type.is_some_and(|name| self.non_retryable.contains(&name))
            }
            Err(_) => true,
        }
    }
}

/// A line of the user's code with its text.
pub(crate) fn place_of(py: Python<'_>, origin: &Origin) -> Place {
    let (file, line) = origin.place(py);
    let source = GET_LINE.call(py, (&file, line)).and_then(|text| text.extract());
    let source = source.map_or_else(|_| String::new(), |text: String| text.trim().to_owned());
    Place { file, line, source }
}
