//! The store as one call of a client sees it, with the operations on one instance.

use std::collections::BTreeMap;

use duroxide::providers::WorkItem;
use duroxide::{Event, EventKind, INITIAL_EXECUTION_ID};
use engine_adapter::{ClientView, EngineAdapter};
use serde_json::{Value, from_str};
use store::Store;
use store::operations::{AdminOperations as _, EngineOperations as _};
use store::start::{IfExists, StartOutcome, StartRequest};
use store::work_item::target;

use crate::boundary::errors::Error;

/// Whether the instance was started, and whether one that existed was started with another input.
pub(super) type StartAnswer = (bool, bool);

pub(super) fn started_with(event: Event) -> Option<String> {
    match event.kind {
        EventKind::OrchestrationStarted { input, .. } => Some(input),
        _ => None,
    }
}

/// Whether two texts are the same value; the order of the keys of an object does not count.
fn is_same_json(one: &str, other: &str) -> bool {
    one == other || matches!((from_str::<Value>(one), from_str::<Value>(other)), (Ok(one), Ok(other)) if one == other)
}

/// An open store for the time of one call.
pub(super) struct OpenStore {
    pub(super) adapter: EngineAdapter,
    pub(super) store: Store,
    pub(super) client: ClientView,
}

impl OpenStore {
    pub(super) fn of(adapter: EngineAdapter) -> Self {
        let (store, client) = (adapter.store().clone(), adapter.client_view());
        Self { adapter, store, client }
    }

    pub(super) async fn start(&self, request: StartRequest, if_exists: IfExists) -> Result<StartAnswer, Error> {
        let (instance, input) = (request.instance.clone(), request.input.clone());
        if self.store.start(request, if_exists).await? != StartOutcome::Attached {
            return Ok((true, false));
        }
        // Attaching has succeeded, whether or not the history can be read.
        let history = self.client.read_history_with_execution_id(&instance, INITIAL_EXECUTION_ID).await;
        let recorded = history.ok().and_then(|events| events.into_iter().find_map(started_with));
        Ok((false, recorded.is_some_and(|recorded| !is_same_json(&recorded, &input))))
    }

    /// Refuses a message to an instance that does not exist: the engine would drop it.
    pub(super) async fn check_exists(&self, instance: &str) -> Result<(), Error> {
        if self.store.exists(instance).await? { Ok(()) } else { Err(Error::NotFound(instance.to_owned())) }
    }

    /// Sends a message, unless its instance has ended; whether it was sent.
    pub(super) async fn send(&self, message: WorkItem) -> Result<bool, Error> {
        if !self.store.ended(&[target(&message).to_owned()]).await?.is_empty() {
            return Ok(false);
        }
        self.client.enqueue_for_orchestrator(message, None).await?;
        Ok(true)
    }

    /// Requests a cancellation, unless the instance has ended; whether it was requested.
    pub(super) async fn cancel(&self, instance: String, reason: String) -> Result<bool, Error> {
        self.check_exists(&instance).await?;
        self.send(WorkItem::CancelInstance { instance, reason }).await
    }

    pub(super) async fn kv_value(&self, instance: &str, key: &str) -> Result<Option<String>, Error> {
        Ok(self.client.get_kv_value(instance, key).await?)
    }

    pub(super) async fn kv_values(&self, instance: &str) -> Result<BTreeMap<String, String>, Error> {
        // In key order, since the store's own order differs from call to call.
        let values = self.client.get_kv_all_values(instance).await?;
        Ok(values.into_iter().collect())
    }
}
