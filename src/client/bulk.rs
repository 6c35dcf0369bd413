//! Many starts or messages in one call: all or none of them, in one transaction.

use duroxide::providers::WorkItem;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::boundary::errors::{Error, InstanceAlreadyExists};
use crate::client::open_store::OpenStore;
use store::error::StoreError;
use store::start::{IfExists, StartOutcome, StartRequest};

/// A start whose names Python has checked and whose input it has encoded.
#[derive(Clone)]
#[pyclass(frozen, get_all, from_py_object, module = "duroxide._native")]
pub(crate) struct EncodedStart {
    instance: String,
    orchestration: String,
    input: String,
    version: Option<String>,
    due_ms: Option<u64>,
}

#[pymethods]
impl EncodedStart {
    #[new]
    fn new(
        instance: String,
        orchestration: String,
        input: String,
        version: Option<String>,
        due_ms: Option<u64>,
    ) -> Self {
        Self { instance, orchestration, input, version, due_ms }
    }
}

/// Reads what a start does if its instance exists.
pub(super) fn read_if_exists(if_exists: &str) -> PyResult<IfExists> {
    match if_exists {
        "attach" => Ok(IfExists::Attach),
        "raise" => Ok(IfExists::Raise),
        "restart" => Ok(IfExists::Restart),
        "restart_failed" => Ok(IfExists::RestartFailed),
        _ => Err(PyValueError::new_err(format!(
            "if_exists must be 'attach', 'raise', 'restart' or 'restart_failed', not {if_exists:?}"
        ))),
    }
}

impl From<EncodedStart> for StartRequest {
    fn from(start: EncodedStart) -> Self {
        let EncodedStart { instance, orchestration, input, version, due_ms } = start;
        Self { instance, orchestration, input, version, due_ms }
    }
}

/// A message for an event or a queue, whose names Python has checked and whose data it has encoded.
#[derive(Clone)]
#[pyclass(frozen, get_all, from_py_object, module = "duroxide._native")]
pub(crate) struct EncodedMessage {
    instance: String,
    name: String,
    data: String,
}

#[pymethods]
impl EncodedMessage {
    #[new]
    fn new(instance: String, name: String, data: String) -> Self {
        Self { instance, name, data }
    }
}

pub(super) fn event(message: EncodedMessage) -> WorkItem {
    let EncodedMessage { instance, name, data } = message;
    WorkItem::ExternalRaised { instance, name, data }
}

pub(super) fn queue_message(message: EncodedMessage) -> WorkItem {
    let EncodedMessage { instance, name, data } = message;
    WorkItem::QueueMessage { instance, name, data }
}

impl OpenStore {
    /// For each request whether its instance was started; those that were not are attached to.
    pub(super) async fn start_all(&self, requests: Vec<EncodedStart>, if_exists: IfExists) -> Result<Vec<bool>, Error> {
        let names: Vec<(String, String)> =
            requests.iter().map(|start| (start.instance.clone(), start.orchestration.clone())).collect();
        let requests = requests.into_iter().map(StartRequest::from).collect();
        match self.store.start_all(requests, if_exists).await {
            Ok(outcomes) => Ok(outcomes.into_iter().map(|outcome| outcome != StartOutcome::Attached).collect()),
            Err(error) => Err(place_start(&names, if_exists != IfExists::Raise, error)),
        }
    }

    /// Sends the messages whose instance has not ended; for each message whether it was sent.
    pub(super) async fn send_all(
        &self,
        messages: Vec<EncodedMessage>,
        message: fn(EncodedMessage) -> WorkItem,
    ) -> Result<Vec<bool>, Error> {
        let mut instances: Vec<String> = messages.iter().map(|message| message.instance.clone()).collect();
        instances.sort_unstable();
        instances.dedup();
        let ended = self.store.ended(&instances).await?;
        let sent = messages.iter().map(|message| !ended.contains(&message.instance)).collect();
        let messages = messages.into_iter().filter(|message| !ended.contains(&message.instance));
        self.store.send(messages.map(message).collect()).await?;
        Ok(sent)
    }
}

/// Says which request met an instance that exists.
fn place_start(names: &[(String, String)], attach: bool, error: StoreError) -> Error {
    let StoreError::InstanceAlreadyExists { instance: taken, orchestration: existing } = &error else {
        return Error::Store(error);
    };
    let mut same = names.iter().enumerate().filter(|(_, (instance, _))| instance == taken);
    let position = if attach {
        same.find(|(_, (_, orchestration))| orchestration != existing)
    } else {
        // Of two requests for one id the second is refused, whatever the store has.
        let first = same.next();
        same.next().or(first)
    };
    let position = position.map_or(0, |(position, _)| position);
    Error::Python(InstanceAlreadyExists::new_err(format!("requests[{position}]: {error}; nothing was started")))
}
