//! Starting instances and sending them messages, one or many at once.

use std::sync::atomic::Ordering;

use duroxide::providers::WorkItem;

use super::backend::{Database, patiently};
use super::error::StoreError;
use super::failure::{Patience, Retry};
use super::start::judge;
use super::{IfExists, StartOutcome, StartRequest, Store};

impl Store {
    /// Starts an instance, unless it exists or its start is waiting.
    pub async fn start(&self, request: StartRequest, if_exists: IfExists) -> Result<StartOutcome, StoreError> {
        let outcomes = self.start_all(vec![request], if_exists).await?;
        Ok(outcomes.first().copied().unwrap_or(StartOutcome::Started))
    }

    /// Starts instances, all of them or none, in one transaction.
    pub async fn start_all(
        &self,
        requests: Vec<StartRequest>,
        if_exists: IfExists,
    ) -> Result<Vec<StartOutcome>, StoreError> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let backend = self.backend();
        match &backend.database {
            Database::Embedded(store) => store.start(requests, if_exists).await,
            Database::Postgres(store) if requests.len() == 1 => {
                let mut retry = Retry::new(Patience::Caller);
                let request = &requests[0];
                let found = patiently!(backend, "start_orchestration", &mut retry, store.start(request.clone()))?;
                let running = |_: &str| Ok(found.as_deref());
                judge(requests.iter().map(StartRequest::names), if_exists, running)
            }
            Database::Postgres(store) => {
                let server = store.server();
                let (mut retry, mut unheard) = (Retry::new(Patience::Caller), None);
                let outcomes = patiently!(
                    backend,
                    "start_orchestration",
                    &mut retry,
                    server.start_all(&requests, if_exists, &mut unheard)
                )??;
                store.look_again();
                Ok(outcomes)
            }
        }
    }

    /// Sends messages, all of them or none, in one transaction. Those to an instance that does not exist wait for it for a while.
    pub async fn send(&self, messages: Vec<WorkItem>) -> Result<(), StoreError> {
        let backend = self.backend();
        backend.check_open("enqueue_for_orchestrator")?;
        if messages.is_empty() {
            return Ok(());
        }
        match &backend.database {
            Database::Embedded(store) => store.send(messages).await?,
            Database::Postgres(store) => {
                let mut retry = Retry::new(Patience::Caller);
                patiently!(backend, "enqueue_for_orchestrator", &mut retry, store.send(messages.clone(), None))?;
            }
        }
        Ok(())
    }
}
