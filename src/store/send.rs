//! Starting instances and sending them messages, one or many at once.

use std::sync::atomic::Ordering;

use duroxide::providers::WorkItem;

use super::backend::{Database, Server, patiently};
use super::error::StoreError;
use super::failure::{Patience, Retry};
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
            Database::Postgres { pool, schema } => {
                let server = Server { pool, schema };
                let (mut retry, mut unheard) = (Retry::new(Patience::Caller), None);
                let outcomes = patiently!(
                    backend,
                    "start_orchestration",
                    &mut retry,
                    server.start_all(&requests, if_exists, &mut unheard)
                )??;
                for (request, outcome) in requests.iter().zip(&outcomes) {
                    if *outcome == StartOutcome::Started {
                        self.0.shared.enqueued(&request.clone().into_message(), None);
                    }
                }
                Ok(outcomes)
            }
        }
    }

    /// Sends messages, all of them or none, in one transaction. Where the store does not keep what comes before its instance,
    /// the answer is the position of the first message that is for nobody, and none is sent.
    pub async fn send(&self, messages: Vec<WorkItem>) -> Result<Option<usize>, StoreError> {
        let backend = self.backend();
        backend.check_open("enqueue_for_orchestrator")?;
        if messages.is_empty() {
            return Ok(None);
        }
        match &backend.database {
            Database::Embedded(store) => store.send(messages).await.map(|()| None),
            Database::Postgres { pool, schema } => {
                let server = Server { pool, schema };
                let (mut retry, mut unheard) = (Retry::new(Patience::Caller), None);
                let for_nobody = patiently!(
                    backend,
                    "enqueue_for_orchestrator",
                    &mut retry,
                    server.send_all(&messages, &mut unheard)
                )?;
                if for_nobody.is_none() {
                    for message in &messages {
                        self.0.shared.enqueued(message, None);
                    }
                }
                Ok(for_nobody)
            }
        }
    }
}
