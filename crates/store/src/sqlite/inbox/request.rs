//! Requests, their answers, and the JSON of both.

use std::sync::Arc;

use duroxide::providers::{DeleteInstanceResult, InstanceFilter, PruneOptions, PruneResult, WorkItem};
use serde::{Deserialize, Serialize};

use crate::clock::now_ms;
use crate::error::StoreError;
use crate::failure::{Failure, FailureKind};
use crate::live::LiveState;
use crate::start::{IfExists, StartOutcome, StartRequest, WaitingStart};
use crate::termination::Termination;

/// One request of a client process.
#[derive(Debug, Clone)]
pub struct Request {
    /// The random name of the inbox, under which the store records the last position that it has carried out.
    pub inbox: Arc<str>,
    /// The position in the inbox. Later requests have higher positions.
    pub position: i64,
    pub body: Body,
}

impl Request {
    /// How many messages to instances the request contains.
    pub fn messages(&self) -> usize {
        match &self.body {
            Body::Start { requests, .. } => requests.len(),
            Body::Messages { items, .. } => items.len(),
            _ => 0,
        }
    }
}

#[derive(Debug, Clone)]
pub enum Body {
    Start {
        requests: Vec<StartRequest>,
        if_exists: IfExists,
    },
    /// `visible_ms` is 0 for messages that are visible at once.
    Messages {
        items: Vec<WorkItem>,
        visible_ms: u64,
    },
    Delete {
        ids: Vec<String>,
        force: bool,
    },
    DeleteBulk(InstanceFilter),
    Prune {
        id: String,
        options: PruneOptions,
    },
    PruneBulk {
        filter: InstanceFilter,
        options: PruneOptions,
    },
    Terminate(Termination),
    /// What is under way for an instance. It changes nothing.
    Describe {
        id: String,
    },
}

#[derive(Debug, Clone)]
pub enum InboxReply {
    Started(Vec<StartOutcome>),
    /// The messages are in the store.
    Delivered,
    Deleted(DeleteInstanceResult),
    Pruned(PruneResult),
    /// The instances that the request has ended.
    Terminated(Vec<String>),
    Described(Box<LiveState>),
    /// An owner carried the request out, and ended before it could report the result.
    Lost,
}

pub type InboxAnswer = Result<InboxReply, StoreError>;

#[derive(Serialize, Deserialize)]
struct WrittenStart {
    instance: String,
    orchestration: String,
    input: String,
    version: Option<String>,
    /// The time of the request, in ms since the epoch. Older versions do not write it, and ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requested_ms: Option<u64>,
    /// When the instance begins, in ms since the epoch. Older versions ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
enum WrittenRestart {
    Ended,
    Failed,
}

#[derive(Serialize, Deserialize)]
struct WrittenFilter {
    ids: Option<Vec<String>>,
    completed_before: Option<u64>,
    limit: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct WrittenOptions {
    keep_last: Option<u32>,
    completed_before: Option<u64>,
}

/// Processes of different releases share an inbox, so a new variant or field needs a new version of the inbox. `Describe`
/// needs none: an owner that does not know it answers with a failure, and its client reads the file. `Terminate` needs
/// none either: its caller gets the failure.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenBody {
    Start {
        requests: Vec<WrittenStart>,
        attach: bool,
        /// Which instances that have ended run again. Older versions ignore it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        restart: Option<WrittenRestart>,
    },
    Messages {
        items: Vec<WorkItem>,
        visible_ms: u64,
    },
    Delete {
        ids: Vec<String>,
        force: bool,
    },
    DeleteBulk {
        filter: WrittenFilter,
    },
    Prune {
        id: String,
        options: WrittenOptions,
    },
    PruneBulk {
        filter: WrittenFilter,
        options: WrittenOptions,
    },
    Terminate {
        id: String,
        reason: String,
        output: Option<String>,
        recursive: bool,
    },
    Describe {
        id: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenAnswer {
    Started {
        attached: Vec<bool>,
    },
    Delivered,
    Deleted {
        instances: u64,
        executions: u64,
        events: u64,
        messages: u64,
    },
    Pruned {
        instances: u64,
        executions: u64,
        events: u64,
    },
    Terminated {
        ids: Vec<String>,
    },
    Described {
        live: Box<LiveState>,
    },
    Lost,
    Configuration {
        message: String,
    },
    Unavailable {
        message: String,
    },
    Exists {
        instance: String,
        orchestration: String,
    },
    Provider {
        operation: String,
        message: String,
        retryable: bool,
        /// Written where `retryable` does not tell it, so that the other answers read as before there were kinds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<WrittenKind>,
    },
    Closed,
}

/// The kinds of failures that `retryable` does not tell.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenKind {
    LockLost,
    NotApplied,
    NotFound,
    StillRunning,
    HasParent,
    Unreadable,
    Unusable,
}

impl WrittenKind {
    fn of(kind: FailureKind) -> Option<Self> {
        match kind {
            FailureKind::LockLost => Some(Self::LockLost),
            FailureKind::NotApplied => Some(Self::NotApplied),
            FailureKind::NotFound => Some(Self::NotFound),
            FailureKind::StillRunning => Some(Self::StillRunning),
            FailureKind::HasParent => Some(Self::HasParent),
            FailureKind::Unreadable => Some(Self::Unreadable),
            FailureKind::Unusable => Some(Self::Unusable),
            // It is the owner's store that was closed, not the one of the client that reads the answer.
            FailureKind::InDoubt | FailureKind::Closed | FailureKind::Obstructed | FailureKind::Refused => None,
        }
    }
}

impl From<WrittenKind> for FailureKind {
    fn from(kind: WrittenKind) -> Self {
        match kind {
            WrittenKind::LockLost => Self::LockLost,
            WrittenKind::NotApplied => Self::NotApplied,
            WrittenKind::NotFound => Self::NotFound,
            WrittenKind::StillRunning => Self::StillRunning,
            WrittenKind::HasParent => Self::HasParent,
            WrittenKind::Unreadable => Self::Unreadable,
            WrittenKind::Unusable => Self::Unusable,
        }
    }
}

impl From<&InstanceFilter> for WrittenFilter {
    fn from(filter: &InstanceFilter) -> Self {
        let InstanceFilter { instance_ids, completed_before, limit } = filter.clone();
        Self { ids: instance_ids, completed_before, limit }
    }
}

impl From<WrittenFilter> for InstanceFilter {
    fn from(filter: WrittenFilter) -> Self {
        Self { instance_ids: filter.ids, completed_before: filter.completed_before, limit: filter.limit }
    }
}

impl From<&PruneOptions> for WrittenOptions {
    fn from(options: &PruneOptions) -> Self {
        Self { keep_last: options.keep_last, completed_before: options.completed_before }
    }
}

impl From<WrittenOptions> for PruneOptions {
    fn from(options: WrittenOptions) -> Self {
        Self { keep_last: options.keep_last, completed_before: options.completed_before }
    }
}

impl Body {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Messages { .. } => "messages",
            Self::Delete { .. } => "delete",
            Self::DeleteBulk(_) => "delete_bulk",
            Self::Prune { .. } => "prune",
            Self::PruneBulk { .. } => "prune_bulk",
            Self::Terminate(_) => "terminate",
            Self::Describe { .. } => "describe",
        }
    }

    /// The messages that the request sends.
    pub fn into_messages(self) -> Option<Vec<WorkItem>> {
        match self {
            Self::Messages { items, .. } => Some(items),
            _ => None,
        }
    }

    pub fn encode(&self) -> Result<String, StoreError> {
        let written = match self.clone() {
            Self::Start { requests, if_exists } => WrittenBody::Start {
                requests: requests.into_iter().map(WrittenStart::from).collect(),
                attach: if_exists != IfExists::Raise,
                restart: match if_exists {
                    IfExists::Attach | IfExists::Raise => None,
                    IfExists::Restart => Some(WrittenRestart::Ended),
                    IfExists::RestartFailed => Some(WrittenRestart::Failed),
                },
            },
            Self::Messages { items, visible_ms } => WrittenBody::Messages { items, visible_ms },
            Self::Delete { ids, force } => WrittenBody::Delete { ids, force },
            Self::DeleteBulk(filter) => WrittenBody::DeleteBulk { filter: (&filter).into() },
            Self::Prune { id, options } => WrittenBody::Prune { id, options: (&options).into() },
            Self::PruneBulk { filter, options } => {
                WrittenBody::PruneBulk { filter: (&filter).into(), options: (&options).into() }
            }
            Self::Terminate(Termination { instance, reason, output, is_recursive }) => {
                WrittenBody::Terminate { id: instance, reason, output, recursive: is_recursive }
            }
            Self::Describe { id } => WrittenBody::Describe { id },
        };
        serde_json::to_string(&written).map_err(encoding_error)
    }

    pub fn decode(payload: &str) -> serde_json::Result<Self> {
        Ok(match serde_json::from_str(payload)? {
            WrittenBody::Start { requests, attach, restart } => Self::Start {
                requests: requests.into_iter().map(StartRequest::from).collect(),
                if_exists: match restart {
                    Some(WrittenRestart::Ended) => IfExists::Restart,
                    Some(WrittenRestart::Failed) => IfExists::RestartFailed,
                    None if attach => IfExists::Attach,
                    None => IfExists::Raise,
                },
            },
            WrittenBody::Messages { items, visible_ms } => Self::Messages { items, visible_ms },
            WrittenBody::Delete { ids, force } => Self::Delete { ids, force },
            WrittenBody::DeleteBulk { filter } => Self::DeleteBulk(filter.into()),
            WrittenBody::Prune { id, options } => Self::Prune { id, options: options.into() },
            WrittenBody::PruneBulk { filter, options } => {
                Self::PruneBulk { filter: filter.into(), options: options.into() }
            }
            WrittenBody::Terminate { id, reason, output, recursive } => {
                Self::Terminate(Termination { instance: id, reason, output, is_recursive: recursive })
            }
            WrittenBody::Describe { id } => Self::Describe { id },
        })
    }
}

impl From<StartRequest> for WrittenStart {
    fn from(request: StartRequest) -> Self {
        let StartRequest { instance, orchestration, input, version, due_ms } = request;
        Self { instance, orchestration, input, version, requested_ms: Some(now_ms()), due_ms }
    }
}

impl From<WrittenStart> for StartRequest {
    fn from(request: WrittenStart) -> Self {
        let WrittenStart { instance, orchestration, input, version, requested_ms: _, due_ms } = request;
        Self { instance, orchestration, input, version, due_ms }
    }
}

/// The start of `instance` in the JSON of a request.
pub fn waiting_start(payload: &str, instance: &str) -> Option<WaitingStart> {
    match serde_json::from_str(payload).ok()? {
        WrittenBody::Start { requests, .. } => {
            let request = requests.into_iter().find(|request| request.instance == instance)?;
            let WrittenStart { orchestration, version, requested_ms, due_ms, .. } = request;
            let requested_ms = requested_ms.unwrap_or_else(now_ms);
            Some(WaitingStart { orchestration, version, parent: None, requested_ms, due_ms: due_ms.unwrap_or(0) })
        }
        WrittenBody::Messages { items, .. } => {
            let start = items.into_iter().find(
                |item| matches!(item, WorkItem::StartOrchestration { instance: started, .. } if started == instance),
            )?;
            WaitingStart::of(start, now_ms(), 0)
        }
        _ => None,
    }
}

pub fn encode_answer(answer: &InboxAnswer) -> Result<String, StoreError> {
    let written = match answer.clone() {
        Ok(InboxReply::Started(outcomes)) => WrittenAnswer::Started {
            attached: outcomes.into_iter().map(|outcome| outcome == StartOutcome::Attached).collect(),
        },
        Ok(InboxReply::Delivered) => WrittenAnswer::Delivered,
        Ok(InboxReply::Deleted(result)) => WrittenAnswer::Deleted {
            instances: result.instances_deleted,
            executions: result.executions_deleted,
            events: result.events_deleted,
            messages: result.queue_messages_deleted,
        },
        Ok(InboxReply::Pruned(result)) => WrittenAnswer::Pruned {
            instances: result.instances_processed,
            executions: result.executions_deleted,
            events: result.events_deleted,
        },
        Ok(InboxReply::Terminated(ids)) => WrittenAnswer::Terminated { ids },
        Ok(InboxReply::Described(live)) => WrittenAnswer::Described { live },
        Ok(InboxReply::Lost) => WrittenAnswer::Lost,
        Err(StoreError::Configuration(message)) => WrittenAnswer::Configuration { message },
        Err(StoreError::Unavailable(message)) => WrittenAnswer::Unavailable { message },
        Err(StoreError::InstanceAlreadyExists { instance, orchestration }) => {
            WrittenAnswer::Exists { instance, orchestration }
        }
        Err(StoreError::Failed(failure)) => WrittenAnswer::Provider {
            retryable: failure.is_transient(),
            kind: WrittenKind::of(failure.kind),
            operation: failure.operation,
            message: failure.message,
        },
        Err(StoreError::Closed) => WrittenAnswer::Closed,
    };
    serde_json::to_string(&written).map_err(encoding_error)
}

pub fn decode_answer(payload: &str) -> InboxAnswer {
    match serde_json::from_str(payload) {
        Ok(WrittenAnswer::Started { attached }) => Ok(InboxReply::Started(
            attached
                .into_iter()
                .map(|attached| if attached { StartOutcome::Attached } else { StartOutcome::Started })
                .collect(),
        )),
        Ok(WrittenAnswer::Delivered) => Ok(InboxReply::Delivered),
        Ok(WrittenAnswer::Deleted { instances, executions, events, messages }) => {
            Ok(InboxReply::Deleted(DeleteInstanceResult {
                instances_deleted: instances,
                executions_deleted: executions,
                events_deleted: events,
                queue_messages_deleted: messages,
            }))
        }
        Ok(WrittenAnswer::Pruned { instances, executions, events }) => Ok(InboxReply::Pruned(PruneResult {
            instances_processed: instances,
            executions_deleted: executions,
            events_deleted: events,
        })),
        Ok(WrittenAnswer::Terminated { ids }) => Ok(InboxReply::Terminated(ids)),
        Ok(WrittenAnswer::Described { live }) => Ok(InboxReply::Described(live)),
        Ok(WrittenAnswer::Lost) => Ok(InboxReply::Lost),
        Ok(WrittenAnswer::Configuration { message }) => Err(StoreError::Configuration(message)),
        Ok(WrittenAnswer::Unavailable { message }) => Err(StoreError::Unavailable(message)),
        Ok(WrittenAnswer::Exists { instance, orchestration }) => {
            Err(StoreError::InstanceAlreadyExists { instance, orchestration })
        }
        Ok(WrittenAnswer::Provider { operation, message, retryable, kind }) => {
            let told_by_retryable = if retryable { FailureKind::InDoubt } else { FailureKind::Refused };
            let kind = kind.map_or(told_by_retryable, FailureKind::from);
            Err(StoreError::Failed(Failure { kind, operation, message }))
        }
        // The owner closed its store. The store of this process is still open.
        Ok(WrittenAnswer::Closed) => Err(StoreError::Unavailable(
            "the process that works on the store closed it before the request was carried out; try again".to_owned(),
        )),
        Err(error) => Err(StoreError::Unavailable(format!(
            "the process that works on the store answered in a way that this version does not understand ({error}); \
             use one version of duroxide in all processes"
        ))),
    }
}

fn encoding_error(error: serde_json::Error) -> StoreError {
    StoreError::Configuration(format!("a request cannot be written as JSON: {error}"))
}
