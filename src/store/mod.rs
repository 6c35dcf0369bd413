//! Stores: opening them, and the two views of an open one.
//!
//! Everything goes to the database through a [`Store`]: clients by [`Store::provider`], each runtime by a [`Dispatcher`].
//! Both know of each other's commits, so nobody polls for what happens in this process. No Python in here.

mod backend;
mod claim;
mod client;
mod clock;
mod delivery;
mod dispatcher;
mod ending;
mod error;
mod failure;
mod metrics;
mod postgres;
mod shared;
mod bundled;
mod sqlite;
#[cfg(test)]
mod tests;
mod turn;
mod wake;
mod watch;

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use duroxide::providers::{Provider, WorkItem};
use duroxide::{EventKind, INITIAL_EXECUTION_ID};

pub use delivery::{Delivery, split_delivery};
pub use dispatcher::{Dispatcher, DispatcherSettings};
pub use error::StoreError;
pub use metrics::Metrics;
pub use postgres::{PostgresConnection, PostgresTarget};
pub use turn::{RecordedEvent, RecordedKind, TurnRecord, hash_data};
pub use watch::Watch;

use backend::{Backend, Effect, patiently};
use client::ClientView;
use failure::{Patience, Retry};
use shared::Shared;

/// What a store keeps its data in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Memory,
    Sqlite,
    Postgres,
}

/// A start as a client asks for it.
#[derive(Debug, Clone)]
pub struct StartRequest {
    pub instance: String,
    pub orchestration: String,
    pub input: String,
    pub version: Option<String>,
}

/// What to do when the instance exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// Take it for the one that was asked for, if it runs the same orchestration.
    Attach,
    Raise,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOutcome {
    Started,
    Attached,
}

/// An opened store, shared by all clients and runtimes that were given it or a clone of it.
#[derive(Clone)]
pub struct Store(Arc<Opening>);

/// One call that opened the store; a file may be opened more than once.
struct Opening {
    shared: Arc<Shared>,
    closed: AtomicBool,
}

static OPEN_FILES: LazyLock<bundled::OpenFiles<Weak<Shared>>> = LazyLock::new(bundled::OpenFiles::default);

impl Store {
    fn opened(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Opening { shared, closed: AtomicBool::new(false) }))
    }

    /// Opens the file, and makes it where there is none.
    pub async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        let path = bundled::locate(path)?;
        let mut files = OPEN_FILES.lock().await;
        files.retain(|_, shared| shared.strong_count() > 0);
        if let Some(shared) = files.get(&path).and_then(Weak::upgrade)
            && !shared.backend.is_closed()
        {
            shared.openings.fetch_add(1, Ordering::AcqRel);
            return Ok(Self::opened(shared));
        }
        let shared = Arc::new(Shared::new(bundled::open(&path).await?));
        // A file that was just made has its canonical path only now.
        let path = bundled::locate(&path)?;
        files.insert(path, Arc::downgrade(&shared));
        Ok(Self::opened(shared))
    }

    /// A new database in this process's memory; every call makes another one.
    pub async fn sqlite_in_memory() -> Result<Self, StoreError> {
        Ok(Self::opened(Arc::new(Shared::new(bundled::in_memory().await?))))
    }

    pub async fn connect_postgres(target: PostgresTarget) -> Result<Self, StoreError> {
        Ok(Self::opened(Arc::new(Shared::new(postgres::connect(target).await?))))
    }

    fn backend(&self) -> &Backend {
        &self.0.shared.backend
    }

    pub fn kind(&self) -> StoreKind {
        self.backend().kind
    }

    /// For logs; never holds a password.
    pub fn describe(&self) -> String {
        self.backend().description.clone()
    }

    /// Closes the database once every opening of it is closed. Operations under way end first; later ones fail.
    pub async fn close(&self) {
        if self.0.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = &self.0.shared;
        // No new opening may find this one while it closes.
        let _files = OPEN_FILES.lock().await;
        if shared.openings.fetch_sub(1, Ordering::AcqRel) == 1 {
            shared.wake.stop();
            shared.backend.close().await;
            shared.watches.notify_all();
        }
    }

    /// The store as a client uses it.
    pub fn provider(&self) -> Arc<dyn Provider> {
        Arc::new(ClientView { shared: Arc::clone(&self.0.shared) })
    }

    /// The store as one runtime uses it.
    pub fn dispatcher(&self, settings: DispatcherSettings) -> Arc<Dispatcher> {
        Arc::new(Dispatcher::new(Arc::clone(&self.0.shared), settings))
    }

    /// For waiting: watch first, then look, then wait for the change.
    pub fn watch(&self, instance: &str) -> Watch {
        self.0.shared.watches.watch(instance)
    }

    /// Why `instance` waits for code that can run it, if it does.
    pub fn mismatch(&self, instance: &str) -> Option<String> {
        self.0.shared.waiting.report(instance)
    }

    /// Whether `instance` exists, or its start is waiting.
    pub async fn exists(&self, instance: &str) -> Result<bool, StoreError> {
        Ok(self.running(instance, "find_instance").await?.is_some())
    }

    async fn running(&self, instance: &str, operation: &'static str) -> Result<Option<String>, StoreError> {
        let backend = self.backend();
        let mut retry = Retry::new(Patience::Caller);
        Ok(patiently!(backend, operation, Effect::Passing, &mut retry, backend.running(instance))?)
    }

    /// Starts an instance, unless it exists or its start is waiting.
    pub async fn start(&self, request: StartRequest, if_exists: IfExists) -> Result<StartOutcome, StoreError> {
        let StartRequest { instance, orchestration, input, version } = request;
        if self.0.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        let shared = &self.0.shared;
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&instance);
        let locks = &shared.start_locks;
        let _lock = locks[usize::try_from(hash % locks.len() as u64).unwrap_or(0)].lock().await;
        match self.running(&instance, "start_orchestration").await? {
            Some(existing) if if_exists == IfExists::Attach && existing == orchestration => {
                return Ok(StartOutcome::Attached);
            }
            Some(orchestration) => return Err(StoreError::InstanceAlreadyExists { instance, orchestration }),
            None => {}
        }
        let start = WorkItem::StartOrchestration {
            instance,
            orchestration,
            input,
            version,
            parent_instance: None,
            parent_id: None,
            parent_execution_id: None,
            execution_id: INITIAL_EXECUTION_ID,
        };
        ClientView { shared: Arc::clone(shared) }.enqueue_for_orchestrator(start, None).await?;
        Ok(StartOutcome::Started)
    }

    /// When the instance was created and last changed, in milliseconds since the epoch: the bundled provider answers 0.
    pub async fn instance_times(&self, instance: &str) -> Result<(u64, u64), StoreError> {
        let backend = self.backend();
        let mut retry = Retry::new(Patience::Caller);
        let edges =
            patiently!(backend, "get_instance_info", Effect::Passing, &mut retry, backend.first_and_last(instance))?;
        match edges {
            Some((first, last)) => Ok((first.timestamp_ms, last.timestamp_ms)),
            None => Err(not_found("get_instance_info", &format!("Instance {instance} not found"))),
        }
    }

    /// When the execution started and, if it has, ended.
    pub async fn execution_times(&self, instance: &str, execution_id: u64) -> Result<(u64, Option<u64>), StoreError> {
        let view = ClientView { shared: Arc::clone(&self.0.shared) };
        let history = view.read_with_execution(instance, execution_id).await?;
        let Some(first) = history.first() else {
            let message = format!("Execution {execution_id} of instance {instance} not found");
            return Err(not_found("get_execution_info", &message));
        };
        let end = history.iter().find(|event| {
            matches!(
                event.kind,
                EventKind::OrchestrationCompleted { .. }
                    | EventKind::OrchestrationFailed { .. }
                    | EventKind::OrchestrationContinuedAsNew { .. }
            )
        });
        Ok((first.timestamp_ms, end.map(|event| event.timestamp_ms)))
    }
}

fn not_found(operation: &str, message: &str) -> StoreError {
    StoreError::Provider(duroxide::providers::ProviderError::permanent(operation, message))
}
