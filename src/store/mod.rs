//! Stores: opening them, and the two views of an open one.
//!
//! Everything goes to the database through a [`Store`]: clients by [`Store::provider`], each runtime by a [`Dispatcher`].
//! Both know of each other's commits, so nobody polls for what happens in this process. No Python in here.

mod action;
mod backend;
mod cancellation;
mod client;
mod clock;
#[cfg(test)]
mod conformance;
mod delivery;
mod dispatcher;
mod encoding;
mod ending;
mod error;
mod failure;
mod kept;
mod mail;
mod metrics;
mod mismatch;
mod postgres;
mod recorded;
mod relay;
mod removal;
mod send;
mod shared;
mod sqlite;
mod start;
mod stop;
#[cfg(test)]
mod tests;
mod turn;
mod watch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use duroxide::EventKind;
use duroxide::providers::{Provider, ProviderAdmin as _};
use tokio::task::JoinError;

pub use action::{Action, Described};
pub use cancellation::CANCELLATION_QUEUE;
pub use delivery::{Delivery, split_delivery};
pub use dispatcher::{Dispatcher, DispatcherSettings, Nondeterminism};
pub use encoding::encode;
pub use error::StoreError;
pub use kept::{DriverState, Keeper, KeptTurn};
pub use metrics::Metrics;
pub use mismatch::{Did, Difference, Place};
pub use postgres::{Entra, Migrate, PostgresConnection, PostgresOptions, PostgresTarget};
pub use recorded::{RecordedEvent, RecordedKind, hash_data};
pub use relay::{Relay, Relayed};
pub use sqlite::FileNews;
pub use start::{IfExists, StartOutcome, StartRequest};
pub use turn::TurnRecord;
pub use watch::Watch;

use backend::{Backend, Database, patiently};
use client::ClientView;
use failure::{Patience, Retry};
use shared::Shared;
use sqlite::SqliteStore;

/// What a store keeps its data in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Memory,
    Sqlite,
    Postgres,
}

/// How an instance stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Of its current execution.
    pub status: String,
    pub output: Option<String>,
    pub custom_status: Option<String>,
    /// How often the custom status was set.
    pub custom_status_version: u64,
}

/// When a store in a file calls something recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When the disk has it: a power failure loses nothing that was acknowledged.
    Full,
    /// When the operating system has it: a power failure may lose the last moments, the end of a process does not.
    Normal,
}

impl Durability {
    /// As Python writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
        }
    }
}

/// An opened store, shared by all clients and runtimes that were given it or a clone of it.
#[derive(Clone)]
pub struct Store(Arc<Opening>);

/// One call that opened the store; a file may be opened more than once.
struct Opening {
    shared: Arc<Shared>,
    /// `None` for a store that is no file.
    file: Option<PathBuf>,
    closed: AtomicBool,
}

/// A file that is open in this process.
struct OpenFile {
    shared: Weak<Shared>,
    durability: Durability,
}

static OPEN_FILES: LazyLock<tokio::sync::Mutex<HashMap<PathBuf, OpenFile>>> = LazyLock::new(Default::default);

impl Store {
    fn opened(shared: Arc<Shared>, file: Option<PathBuf>) -> Self {
        Self(Arc::new(Opening { shared, file, closed: AtomicBool::new(false) }))
    }

    /// Opens the file, and makes it where there is none.
    pub async fn open_sqlite(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let path = sqlite::locate(path)?;
        let mut files = OPEN_FILES.lock().await;
        files.retain(|_, file| file.shared.strong_count() > 0);
        // Two owners of one file would be in each other's way; a second opening shares the first one.
        if let Some(file) = files.get(&path)
            && let Some(shared) = file.shared.upgrade()
            && !shared.backend.is_closed()
        {
            if file.durability != durability {
                return Err(StoreError::Configuration(format!(
                    "'{}' is open in this process with durability '{}', and cannot be opened with '{}' too; open it with \
                     the same, or close it first",
                    path.display(),
                    file.durability.name(),
                    durability.name()
                )));
            }
            shared.openings.fetch_add(1, Ordering::AcqRel);
            return Ok(Self::opened(shared, Some(path)));
        }
        let opening = path.clone();
        let store = unblocked(move || SqliteStore::open(&opening, durability)).await?;
        let description = format!("SQLite file '{}'", path.display());
        let shared = Shared::of_embedded(Backend::embedded(StoreKind::Sqlite, description, store));
        // A file that was just made has its canonical path only now.
        let path = sqlite::locate(&path)?;
        files.insert(path.clone(), OpenFile { shared: Arc::downgrade(&shared), durability });
        Ok(Self::opened(shared, Some(path)))
    }

    /// A new database in this process's memory; every call makes another one.
    pub async fn sqlite_in_memory() -> Result<Self, StoreError> {
        let store = unblocked(SqliteStore::in_memory).await?;
        let backend = Backend::embedded(StoreKind::Memory, "store in memory".to_owned(), store);
        Ok(Self::opened(Shared::of_embedded(backend), None))
    }

    pub async fn connect_postgres(target: PostgresTarget) -> Result<Self, StoreError> {
        Ok(Self::opened(Shared::of_server(postgres::connect(target).await?), None))
    }

    /// Gives a PostgreSQL store the indexes and settings that help when much is in it; says what was missing.
    pub async fn tune(&self) -> Result<Vec<String>, StoreError> {
        let Database::Postgres(store) = &self.backend().database else {
            return Err(StoreError::Configuration("only a store in PostgreSQL is tuned".to_owned()));
        };
        self.backend().check_open("tune")?;
        Ok(store.server().tune().await?)
    }

    fn backend(&self) -> &Backend {
        &self.0.shared.backend
    }

    pub fn kind(&self) -> StoreKind {
        self.backend().kind
    }

    /// Whether all that happens in the store is told to its watches at present.
    pub fn tells_changes(&self) -> bool {
        match &self.backend().database {
            Database::Embedded(_) => true,
            Database::Postgres(store) => store.hears(),
        }
    }

    /// The schema of its tables, as the server has the name; `None` where there are no schemas.
    pub fn schema(&self) -> Option<&str> {
        match &self.backend().database {
            Database::Embedded(_) => None,
            Database::Postgres(store) => Some(store.server().schema),
        }
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
            shared.stop.stop();
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

    /// How an instance stands; `None` if it does not exist.
    pub async fn standing(&self, instance: &str) -> Result<Option<Standing>, StoreError> {
        let backend = self.backend();
        backend.check_open("get_instance_info")?;
        match &backend.database {
            Database::Embedded(store) => Ok(store.standing(instance)?),
            Database::Postgres(store) => {
                let server = store.server();
                let mut retry = Retry::new(Patience::Caller);
                Ok(patiently!(backend, "get_instance_info", &mut retry, server.standing(instance))?)
            }
        }
    }

    /// For waiting: watch first, then look, then wait for the change.
    pub fn watch(&self, instance: &str) -> Watch {
        let elsewhere = match &self.backend().database {
            Database::Embedded(store) => store.change(),
            Database::Postgres(store) => {
                store.hear();
                None
            }
        };
        self.0.shared.watches.watch(instance, elsewhere)
    }

    /// Makes this process the one that works on the store, or the next in line where only one can.
    pub async fn begin_dispatching(&self) -> Result<(), StoreError> {
        match &self.backend().database {
            Database::Embedded(store) => store.begin_dispatching().await,
            Database::Postgres(store) => {
                store.begin_dispatching();
                Ok(())
            }
        }
    }

    /// Lets others work on the store, when a runtime has ended.
    pub async fn end_dispatching(&self) {
        match &self.backend().database {
            Database::Embedded(store) => store.end_dispatching().await,
            Database::Postgres(store) => store.end_dispatching().await,
        }
    }

    /// Copies the store into a new file, as it is at one moment.
    pub async fn back_up(&self, target: &Path) -> Result<(), StoreError> {
        let backend = self.backend();
        backend.check_open("backup")?;
        match &backend.database {
            Database::Embedded(store) => {
                let target = sqlite::locate(target)?;
                if self.0.file.as_ref() == Some(&target) {
                    return Err(StoreError::Configuration(format!(
                        "'{}' is the file of the store itself; give the path of a new file",
                        target.display()
                    )));
                }
                if target.exists() {
                    return Err(StoreError::Configuration(format!(
                        "'{}' exists already; give the path of a new file",
                        target.display()
                    )));
                }
                store.back_up(target).await
            }
            Database::Postgres(_) => Err(StoreError::Configuration(
                "a PostgreSQL database is backed up by its own tools, such as pg_dump".to_owned(),
            )),
        }
    }

    /// Why `instance` waits for code that can run it, if it does.
    pub async fn mismatch(&self, instance: &str) -> Option<String> {
        match &self.backend().database {
            Database::Embedded(store) => store.mismatch(instance).ok().flatten(),
            Database::Postgres(store) => match store.server().waiting(instance).await {
                Ok(report) => report,
                Err(_) => self.0.shared.waiting.report(instance),
            },
        }
    }

    /// Whether `instance` exists, or its start is waiting.
    pub async fn exists(&self, instance: &str) -> Result<bool, StoreError> {
        Ok(self.running(instance, "find_instance").await?.is_some())
    }

    async fn running(&self, instance: &str, operation: &'static str) -> Result<Option<String>, StoreError> {
        match &self.backend().database {
            Database::Embedded(store) => store.running(instance).await,
            Database::Postgres(store) => {
                let backend = self.backend();
                let server = store.server();
                let mut retry = Retry::new(Patience::Caller);
                Ok(patiently!(backend, operation, &mut retry, server.running(instance))?)
            }
        }
    }

    /// When the instance was created and last changed, in milliseconds since the epoch; PostgreSQL's provider answers 0.
    pub async fn instance_times(&self, instance: &str) -> Result<(u64, u64), StoreError> {
        let backend = self.backend();
        let Database::Postgres(store) = &backend.database else {
            let info = ClientView { shared: Arc::clone(&self.0.shared) }.get_instance_info(instance).await?;
            return Ok((info.created_at, info.updated_at));
        };
        let server = store.server();
        let mut retry = Retry::new(Patience::Caller);
        let edges = patiently!(backend, "get_instance_info", &mut retry, server.first_and_last(instance))?;
        match edges {
            Some((first, last)) => Ok((first.timestamp_ms, last.timestamp_ms)),
            None => Err(not_found("get_instance_info", &format!("Instance {instance} not found"))),
        }
    }

    /// When the execution started and, if it has, ended.
    pub async fn execution_times(&self, instance: &str, execution_id: u64) -> Result<(u64, Option<u64>), StoreError> {
        let view = ClientView { shared: Arc::clone(&self.0.shared) };
        if let Database::Embedded(_) = self.backend().database {
            let info = view.get_execution_info(instance, execution_id).await?;
            return Ok((info.started_at, info.completed_at));
        }
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

/// Runs what blocks on a thread that may.
async fn unblocked<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(broken_off)?
}

/// What a task did that panicked, or that the end of the process cut off.
fn broken_off(error: JoinError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
