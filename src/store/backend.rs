//! One opened database below all views of a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use duroxide::providers::{Provider, ProviderError};

use super::StoreKind;
use super::error::CLOSED;
use super::postgres::PostgresStore;
use super::sqlite::SqliteStore;

pub(super) enum Database {
    /// In this process: it never fails for a moment.
    Embedded(Arc<SqliteStore>),
    /// Of many processes, by the tables of duroxide-pg.
    Postgres(Arc<PostgresStore>),
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
    fn new(kind: StoreKind, description: String, provider: Arc<dyn Provider>, database: Database) -> Self {
        Self { kind, description, provider, database, closed: AtomicBool::new(false), outage: AtomicBool::new(false) }
    }

    pub fn embedded(kind: StoreKind, description: String, store: SqliteStore) -> Self {
        let store = Arc::new(store);
        let provider = Arc::clone(&store) as Arc<dyn Provider>;
        Self::new(kind, description, provider, Database::Embedded(store))
    }

    pub fn postgres(description: String, store: PostgresStore) -> Self {
        let store = Arc::new(store);
        let provider = Arc::clone(&store) as Arc<dyn Provider>;
        Self::new(StoreKind::Postgres, description, provider, Database::Postgres(store))
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
            Database::Postgres(store) => store.close().await,
        }
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
