//! The actions of the code that the history records, and that the engine compares during a replay.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use duroxide::EventKind;

use crate::attempt_header::AttemptHeader;
use crate::cancellation::CANCELLATION_QUEUE;

const SYSTEM_CALL: &str = "__duroxide_syscall:";

/// One action. Two equal actions are the same to the engine, which does not compare delays, statuses and child ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action<'a> {
    Activity { name: &'a str, input: Cow<'a, str>, session: Option<&'a str>, tag: Option<Cow<'a, str>> },
    SubOrchestration { name: &'a str, input: &'a str },
    Start { name: &'a str, instance: &'a str, input: &'a str },
    Timer,
    Event { name: &'a str },
    Queue { name: &'a str },
    Status,
    SetValue { key: &'a str, value: &'a str },
    ClearValue { key: &'a str },
    ClearValues,
}

impl<'a> Action<'a> {
    /// The action that an event records, if it records one.
    pub fn recorded(kind: &'a EventKind) -> Option<Self> {
        Some(match kind {
            EventKind::ActivityScheduled { name, input, session_id, tag } => {
                let (session, tag) = (session_id.as_deref(), tag.as_deref().map(Cow::Borrowed));
                Self::Activity { name, input: Cow::Borrowed(input), session, tag }
            }
            EventKind::SubOrchestrationScheduled { name, input, .. } => Self::SubOrchestration { name, input },
            EventKind::OrchestrationChained { name, instance, input } => Self::Start { name, instance, input },
            EventKind::TimerCreated { .. } => Self::Timer,
            EventKind::ExternalSubscribed { name } => Self::Event { name },
            EventKind::QueueSubscribed { name } => Self::Queue { name },
            EventKind::CustomStatusUpdated { .. } => Self::Status,
            EventKind::KeyValueSet { key, value, .. } => Self::SetValue { key, value },
            EventKind::KeyValueCleared { key } => Self::ClearValue { key },
            EventKind::KeyValuesCleared => Self::ClearValues,
            _ => return None,
        })
    }

    /// A number that is equal for equal actions, within one process.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Whether the action has no result. The engine skips a recorded action of this kind that the code does not repeat.
    pub fn is_effect(&self) -> bool {
        matches!(self, Self::Status | Self::SetValue { .. } | Self::ClearValue { .. } | Self::ClearValues)
    }

    /// The action and its input in the words of a report.
    pub fn describe(&self) -> Described {
        let (what, input) = match self {
            Self::Activity { name, input, session, tag } => {
                let what = match name.strip_prefix(SYSTEM_CALL) {
                    Some(call) => format!("system call '{call}'"),
                    None => format!("activity '{name}'"),
                };
                let session = session.map(|session| format!(" on session '{session}'")).unwrap_or_default();
                let tag = tag.as_ref().map(|tag| format!(" with tag '{tag}'")).unwrap_or_default();
                let (_, input) = AttemptHeader::split(input);
                (what + &session + &tag, Some(input).filter(|input| !input.is_empty()))
            }
            Self::SubOrchestration { name, input } => (format!("sub-orchestration '{name}'"), Some(*input)),
            Self::Start { name, instance, input } => {
                (format!("start of orchestration '{name}' as '{instance}'"), Some(*input))
            }
            Self::Timer => ("timer".to_owned(), None),
            Self::Event { name } => (format!("wait for event '{name}'"), None),
            Self::Queue { name: CANCELLATION_QUEUE } => {
                ("wait for a cancellation, as `async def` does".to_owned(), None)
            }
            Self::Queue { name } => (format!("wait for queue '{name}'"), None),
            Self::Status => ("change of the custom status".to_owned(), None),
            Self::SetValue { key, value } => (format!("write of key '{key}'"), Some(*value)),
            Self::ClearValue { key } => (format!("removal of key '{key}'"), None),
            Self::ClearValues => ("removal of all keys".to_owned(), None),
        };
        Described { what, input: input.map(str::to_owned) }
    }
}

/// An action in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub what: String,
    /// The input as recorded, or the value that the action writes.
    pub input: Option<String>,
}
