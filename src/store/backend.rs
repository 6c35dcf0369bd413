//! One opened database below all views of a store.

use std::fs::File;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use duroxide::Event;
use duroxide::providers::{Provider, ProviderError, WorkItem};
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Sqlite, SqlitePool};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, MutexGuard};

use super::StoreKind;
use super::error::CLOSED;

pub(super) enum Database {
    Sqlite {
        pool: SqlitePool,
        /// Held for the life of the store: without a connection a database in memory vanishes, and the log of a file is
        /// deleted and made anew, so that `log` would be another file.
        anchor: Anchor,
        /// The write-ahead log of a file; empty once it is closed.
        log: Option<parking_lot::Mutex<Option<Arc<File>>>>,
    },
    Postgres {
        pool: PgPool,
        /// As the adapter validated it: letters, digits and underscores.
        schema: String,
    },
}

/// One connection that is kept. It goes back to its pool by a task, and so needs the threads it came from, wherever the last
/// user of the store lets go of it.
pub(super) struct Anchor {
    pub connection: Mutex<Option<PoolConnection<Sqlite>>>,
    threads: Handle,
}

impl Anchor {
    /// Must be called on the threads of Tokio.
    pub fn new(connection: PoolConnection<Sqlite>) -> Self {
        Self { connection: Mutex::new(Some(connection)), threads: Handle::current() }
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        let _threads = self.threads.enter();
        drop(self.connection.get_mut().take());
    }
}

pub(super) struct Backend {
    pub kind: StoreKind,
    pub description: String,
    pub provider: Arc<dyn Provider>,
    pub database: Database,
    /// One operation at a time on SQLite: the provider begins deferred transactions, of which all but one would fail when
    /// they turn to writing. It also keeps readers from what is committed but not yet on the disk.
    gate: Mutex<()>,
    closed: AtomicBool,
    outage: AtomicBool,
    /// Why the file can no longer be trusted to keep what is written.
    broken: OnceLock<String>,
}

/// What an operation leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing, or only leases and counters, whose loss is the end of a lease.
    Passing,
    /// Something that an answer promises to keep.
    Kept,
}

impl Backend {
    pub fn new(kind: StoreKind, description: String, provider: Arc<dyn Provider>, database: Database) -> Self {
        Self {
            kind,
            description,
            provider,
            database,
            gate: Mutex::new(()),
            closed: AtomicBool::new(false),
            outage: AtomicBool::new(false),
            broken: OnceLock::new(),
        }
    }

    /// Must be held during an operation.
    pub async fn enter(&self, operation: &str) -> Result<Option<MutexGuard<'_, ()>>, ProviderError> {
        let gate = match self.database {
            Database::Sqlite { .. } => Some(self.gate.lock().await),
            Database::Postgres { .. } => None,
        };
        if self.closed.load(Ordering::Acquire) {
            return Err(ProviderError::permanent(operation, CLOSED));
        }
        match self.broken.get() {
            Some(reason) => Err(ProviderError::permanent(operation, reason.clone())),
            None => Ok(gate),
        }
    }

    /// Makes the operation that succeeded as durable as it claims, before the gate is left.
    ///
    /// The bundled provider opens its connections with `synchronous=NORMAL`, sets it again on each connection that its pool
    /// replaces, and so leaves the log unsynced at a commit. Syncing the log here is what `FULL` does, without a moment in
    /// which a new connection is not yet corrected.
    pub async fn settle(&self, operation: &str, effect: Effect) -> Result<(), ProviderError> {
        let Database::Sqlite { log: Some(log), .. } = &self.database else { return Ok(()) };
        if effect == Effect::Passing {
            return Ok(());
        }
        let Some(log) = log.lock().clone() else { return Ok(()) };
        let synced = tokio::task::spawn_blocking(move || log.sync_data()).await;
        let failure = match synced {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        // The kernel forgets what it could not write, so another sync would succeed and prove nothing.
        let reason =
            format!("{}: the disk did not take what was written ({failure}); restart the process", self.description);
        tracing::error!(target: "duroxide::store", "{reason}");
        Err(ProviderError::permanent(operation, self.broken.get_or_init(|| reason).clone()))
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
        match &self.database {
            Database::Sqlite { pool, anchor, log } => {
                // What is under way ends first: its answer is waited for.
                let _gate = self.gate.lock().await;
                self.closed.store(true, Ordering::Release);
                // Each connection has a thread, which is only waited for by closing the connection itself; the pool's own
                // closing may leave the file open behind the caller's back.
                while let Some(connection) = pool.try_acquire() {
                    connection.close().await.ok();
                }
                if let Some(connection) = anchor.connection.lock().await.take() {
                    connection.close().await.ok();
                }
                pool.close().await;
                if let Some(log) = log {
                    log.lock().take();
                }
            }
            Database::Postgres { pool, .. } => {
                self.closed.store(true, Ordering::Release);
                pool.close().await;
            }
        }
    }

    /// The orchestration that `instance` runs, or that a start which is waiting will run.
    ///
    /// A start leaves the queue in the transaction that makes the instance, so the queue is read first: what is in neither
    /// place was never started. Two *processes* that start one id at the same moment on PostgreSQL can still both find
    /// nothing; the second start is then dropped by the engine, as it always did. Only a start of our own inside one
    /// transaction closes that.
    pub async fn running(&self, instance: &str) -> Result<Option<String>, ProviderError> {
        let waiting: Vec<String> = match &self.database {
            Database::Sqlite { pool, .. } => {
                sqlx::query_scalar("SELECT work_item FROM orchestrator_queue WHERE instance_id = ? ORDER BY id")
                    .bind(instance)
                    .fetch_all(pool)
                    .await
            }
            Database::Postgres { pool, schema } => {
                sqlx::query_scalar(&format!(
                    "SELECT work_item FROM \"{schema}\".orchestrator_queue WHERE instance_id = $1 ORDER BY id"
                ))
                .bind(instance)
                .fetch_all(pool)
                .await
            }
        }
        .map_err(|error| failed("start_orchestration", &error))?;
        let started: Option<String> = match &self.database {
            Database::Sqlite { pool, .. } => {
                sqlx::query_scalar("SELECT orchestration_name FROM instances WHERE instance_id = ?")
                    .bind(instance)
                    .fetch_optional(pool)
                    .await
            }
            Database::Postgres { pool, schema } => {
                sqlx::query_scalar(&format!(
                    "SELECT orchestration_name FROM \"{schema}\".instances WHERE instance_id = $1"
                ))
                .bind(instance)
                .fetch_optional(pool)
                .await
            }
        }
        .map_err(|error| failed("start_orchestration", &error))?;
        Ok(started.or_else(|| {
            waiting.iter().find_map(|text| match serde_json::from_str(text) {
                Ok(WorkItem::StartOrchestration { orchestration, .. }) => Some(orchestration),
                _ => None,
            })
        }))
    }

    /// The first and the last event of an instance.
    pub async fn first_and_last(&self, instance: &str) -> Result<Option<(Event, Event)>, ProviderError> {
        let first = self.edge(instance, "ASC").await?;
        let last = self.edge(instance, "DESC").await?;
        Ok(first.zip(last))
    }

    async fn edge(&self, instance: &str, order: &'static str) -> Result<Option<Event>, ProviderError> {
        const OPERATION: &str = "get_instance_info";
        let text: Option<String> = match &self.database {
            Database::Sqlite { pool, .. } => {
                sqlx::query_scalar(&format!(
                    "SELECT event_data FROM history WHERE instance_id = ? \
                     ORDER BY execution_id {order}, event_id {order} LIMIT 1"
                ))
                .bind(instance)
                .fetch_optional(pool)
                .await
            }
            Database::Postgres { pool, schema } => {
                sqlx::query_scalar(&format!(
                    "SELECT event_data FROM \"{schema}\".history WHERE instance_id = $1 \
                     ORDER BY execution_id {order}, event_id {order} LIMIT 1"
                ))
                .bind(instance)
                .fetch_optional(pool)
                .await
            }
        }
        .map_err(|error| failed(OPERATION, &error))?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| ProviderError::permanent(OPERATION, format!("an event cannot be read: {error}")))
    }
}

fn failed(operation: &str, error: &sqlx::Error) -> ProviderError {
    let message = error.to_string();
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => ProviderError::retryable(operation, message),
        _ => ProviderError::permanent(operation, message),
    }
}

/// Runs one operation of the provider, again after failures that pass. `$effect` and `$patience` say what it leaves and who
/// waits; `$call` is evaluated anew each time.
macro_rules! patiently {
    ($backend:expr, $operation:expr, $effect:expr, $retry:expr, $call:expr) => {{
        let backend = &*$backend;
        let retry: &mut $crate::store::failure::Retry = $retry;
        loop {
            let outcome = match backend.enter($operation).await {
                Err(error) => Err(error),
                Ok(_gate) => match $call.await {
                    Ok(value) => backend.settle($operation, $effect).await.map(|()| value),
                    Err(error) => Err(error),
                },
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
