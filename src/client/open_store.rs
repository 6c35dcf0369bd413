//! The store as one call of a client sees it, with the operations on one instance.

use std::collections::BTreeMap;

use duroxide::providers::WorkItem;
use engine_adapter::{ClientView, EngineAdapter};
use store::Store;
use store::operations::EngineOperations as _;
use store::start::{IfExists, StartOutcome, StartRequest};

use crate::boundary::errors::Error;

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

    pub(super) async fn start(&self, request: StartRequest, attach: bool) -> Result<bool, Error> {
        let if_exists = if attach { IfExists::Attach } else { IfExists::Raise };
        Ok(self.store.start(request, if_exists).await? == StartOutcome::Started)
    }

    /// Refuses a message to an instance that does not exist: the engine would drop it.
    pub(super) async fn check_exists(&self, instance: &str) -> Result<(), Error> {
        if self.store.exists(instance).await? { Ok(()) } else { Err(Error::NotFound(instance.to_owned())) }
    }

    pub(super) async fn send(&self, message: WorkItem) -> Result<(), Error> {
        Ok(self.client.enqueue_for_orchestrator(message, None).await?)
    }

    pub(super) async fn cancel(&self, instance: String, reason: String) -> Result<(), Error> {
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
