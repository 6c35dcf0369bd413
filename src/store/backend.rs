//! One opened database below all views of a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use duroxide::Event;
use duroxide::providers::{Provider, ProviderError};
use sqlx::PgPool;

use super::StoreKind;
use super::error::CLOSED;
use super::sqlite::SqliteStore;

pub(super) enum Database {
    /// Our own: it wakes those who wait, never fails for a moment, and has nothing to be polled for.
    Embedded(Arc<SqliteStore>),
    Postgres {
        pool: PgPool,
        /// As the adapter validated it: letters, digits and underscores.
        schema: String,
    },
}

pub(super) struct Backend {
    pub kind: StoreKind,
    pub description: String,
    pub provider: Arc<dyn Provider>,
    pub database: Database,
    closed: AtomicBool,
    outage: AtomicBool,
}

impl Backend {
    pub fn new(kind: StoreKind, description: String, provider: Arc<dyn Provider>, database: Database) -> Self {
        Self { kind, description, provider, database, closed: AtomicBool::new(false), outage: AtomicBool::new(false) }
    }

    pub fn embedded(kind: StoreKind, description: String, store: SqliteStore) -> Self {
        let store = Arc::new(store);
        let provider = Arc::clone(&store) as Arc<dyn Provider>;
        Self::new(kind, description, provider, Database::Embedded(store))
    }

    /// Whether a fetch waits in the store itself until there is something to do.
    pub fn wakes_fetches(&self) -> bool {
        matches!(self.database, Database::Embedded(_))
    }

    /// Refuses an operation on a store that is closed.
    pub fn check_open(&self, operation: &str) -> Result<(), ProviderError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(ProviderError::permanent(operation, CLOSED));
        }
        Ok(())
    }

    /// Warns once when the database stops answering.
    pub fn outage_began(&self, error: &ProviderError) {
        if !self.outage.swap(true, Ordering::Relaxed) {
            tracing::warn!(target: "duroxide::store", store = %self.description, error = %error, "the store does not answer; waiting for it");
        }
    }

    pub fn outage_ended(&self) {
        if self.outage.load(Ordering::Relaxed) && self.outage.swap(false, Ordering::Relaxed) {
            tracing::info!(target: "duroxide::store", store = %self.description, "the store answers again");
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        match &self.database {
            Database::Embedded(store) => store.close().await,
            Database::Postgres { pool, .. } => pool.close().await,
        }
    }
}

/// PostgreSQL, asked for what its provider does not tell.
pub(super) struct Server<'a> {
    pub pool: &'a PgPool,
    pub schema: &'a str,
}

impl Server<'_> {
    /// The orchestration that `instance` runs, or that a start which is waiting will run.
    pub async fn running(&self, instance: &str) -> Result<Option<String>, ProviderError> {
        const OPERATION: &str = "start_orchestration";
        let mut connection = self.pool.acquire().await.map_err(|error| failed(OPERATION, &error))?;
        Ok(self.known(&mut connection, OPERATION, &[instance]).await?.remove(instance))
    }

    /// The roots that ended before a moment, those first that ended first.
    pub async fn ended(&self, before_ms: u64, limit: u32) -> Result<Vec<String>, ProviderError> {
        let Self { pool, schema } = self;
        sqlx::query_scalar(&format!(
            "SELECT i.instance_id FROM \"{schema}\".instances i JOIN \"{schema}\".executions e \
             ON e.instance_id = i.instance_id AND e.execution_id = i.current_execution_id \
             WHERE i.parent_instance_id IS NULL AND e.status IN ('Completed', 'Failed') \
             AND e.completed_at < 'epoch'::timestamptz + $1 * interval '1 millisecond' ORDER BY e.completed_at LIMIT $2"
        ))
        .bind(i64::try_from(before_ms).unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(*pool)
        .await
        .map_err(|error| failed("delete_instance_bulk", &error))
    }

    /// The first and the last event of an instance.
    pub async fn first_and_last(&self, instance: &str) -> Result<Option<(Event, Event)>, ProviderError> {
        let first = self.edge(instance, "ASC").await?;
        let last = self.edge(instance, "DESC").await?;
        Ok(first.zip(last))
    }

    async fn edge(&self, instance: &str, order: &'static str) -> Result<Option<Event>, ProviderError> {
        const OPERATION: &str = "get_instance_info";
        let Self { pool, schema } = self;
        let text: Option<String> = sqlx::query_scalar(&format!(
            "SELECT event_data FROM \"{schema}\".history WHERE instance_id = $1 \
             ORDER BY execution_id {order}, event_id {order} LIMIT 1"
        ))
        .bind(instance)
        .fetch_optional(*pool)
        .await
        .map_err(|error| failed(OPERATION, &error))?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| ProviderError::permanent(OPERATION, format!("an event cannot be read: {error}")))
    }
}

pub(super) fn failed(operation: &str, error: &sqlx::Error) -> ProviderError {
    let message = error.to_string();
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => ProviderError::retryable(operation, message),
        _ => ProviderError::permanent(operation, message),
    }
}

/// Runs one operation of the provider, again after failures that pass; `$call` is evaluated anew each time.
macro_rules! patiently {
    ($backend:expr, $operation:expr, $retry:expr, $call:expr) => {{
        let backend = &*$backend;
        let retry: &mut $crate::store::failure::Retry = $retry;
        loop {
            let outcome = match backend.check_open($operation) {
                Err(error) => Err(error),
                Ok(()) => $call.await,
            };
            match outcome {
                Ok(value) => {
                    backend.outage_ended();
                    break Ok(value);
                }
                Err(error) => match retry.pause_after(&error) {
                    Some(pause) => {
                        if pause >= $crate::store::backend::NOTICED {
                            backend.outage_began(&error);
                        }
                        tokio::time::sleep(pause).await;
                    }
                    None => break Err(error),
                },
            }
        }
    }};
}
pub(super) use patiently;

/// A pause this long is an outage, and no longer two transactions in each other's way.
pub(super) const NOTICED: Duration = Duration::from_millis(300);
