//! Stores: where instances, histories and messages are kept. This crate knows nothing of Python and nothing of the
//! engine adapter.
//!
//! [`Store::open`] picks a [`Backend`] and shares one opened file among all openings of it in this process. A backend
//! carries out the [`operations`] that the engine asks of a store, plus what this package needs beside the engine's
//! interface.

pub mod availability;
pub mod backend;
pub mod backoff;
pub mod clock;
pub mod code_time;
#[cfg(test)]
mod conformance;
pub mod error;
pub mod events;
pub mod failure;
mod flow_control;
pub mod forward;
pub mod history;
pub mod listing;
pub mod live;
#[cfg(test)]
mod lost_leases;
pub mod operations;
pub mod outbox;
pub mod parent_link;
pub mod policy;
mod postgres;
pub mod retry;
pub mod session_limits;
mod sqlite;
pub mod start;
pub mod terminal_commit;
pub mod termination;
#[cfg(test)]
mod terminations;
pub mod turn_commit;
pub mod types;
pub mod work_item;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock, Weak};

use duroxide::providers::WorkItem;
use tokio_util::sync::CancellationToken;

pub use crate::error::{Result, StoreError};
pub use crate::failure::{Failure, FailureKind};
pub use crate::postgres::{
    Entra, Migrate, PostgresConnection, PostgresOptions, PostgresTarget, Required, schema_for_application,
    stores_statement,
};
pub use crate::sqlite::{DatabaseWatcher, library_version as sqlite_version};

use crate::availability::Availability;
use crate::backend::Backend;
use crate::error::unblocked;
use crate::events::StoreEvents;
use crate::outbox::{Relay, Relayed};
use crate::postgres::PostgresStore;
use crate::sqlite::SqliteStore;
use crate::start::{IfExists, StartOutcome, StartRequest};
use crate::types::{Durability, InstanceState, StoreKind};

/// The database that a store is opened on.
#[derive(Clone)]
pub enum StoreTarget {
    /// A new database in the memory of this process.
    Memory,
    /// A SQLite file, which is created if it does not exist.
    Sqlite {
        path: PathBuf,
        durability: Durability,
    },
    Postgres(PostgresTarget),
}

/// One opening of a store. Clones share it.
#[derive(Clone)]
pub struct Store(Arc<Opening>);

struct Opening {
    database: Arc<Database>,
    closed: AtomicBool,
}

/// An opened database. All openings of one file in this process share it, because two owners of one file would be in
/// each other's way.
pub struct Database {
    id: u64,
    pub kind: StoreKind,
    pub backend: Arc<dyn Backend>,
    pub availability: Arc<Availability>,
    /// Cancelled when the last opening is closed.
    pub closing: CancellationToken,
    events: OnceLock<Arc<dyn StoreEvents>>,
    openings: AtomicUsize,
}

/// A file that is open in this process.
struct OpenFile {
    database: Weak<Database>,
    durability: Durability,
}

static OPEN_FILES: LazyLock<tokio::sync::Mutex<HashMap<PathBuf, OpenFile>>> = LazyLock::new(Default::default);
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Database {
    fn new(kind: StoreKind, backend: Arc<dyn Backend>, availability: Arc<Availability>) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            kind,
            backend,
            availability,
            closing: CancellationToken::new(),
            events: OnceLock::new(),
            openings: AtomicUsize::new(1),
        })
    }

    /// Tells this database from all others that this process has opened.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Reports to `events` from now on. Only the first call has an effect.
    pub fn subscribe(&self, events: Arc<dyn StoreEvents>) {
        if self.events.set(Arc::clone(&events)).is_ok() {
            self.backend.subscribe(events);
        }
    }

    async fn close(&self) {
        self.closing.cancel();
        self.availability.close();
        self.backend.close().await;
        if let Some(events) = self.events.get() {
            events.changed(None);
        }
    }
}

impl Store {
    /// Opens a store. This is the one place that names the backends.
    pub async fn open(target: StoreTarget) -> Result<Self, StoreError> {
        let database = match target {
            StoreTarget::Sqlite { path, durability } => open_file(&path, durability).await?,
            StoreTarget::Memory => {
                let backend = Arc::new(unblocked(SqliteStore::in_memory).await?);
                let availability = Availability::of("store in memory".to_owned());
                Database::new(StoreKind::Memory, backend, availability)
            }
            StoreTarget::Postgres(target) => {
                let backend = PostgresStore::connect(target).await?;
                let availability = Arc::clone(&backend.availability);
                Database::new(StoreKind::Postgres, Arc::new(backend), availability)
            }
        };
        Ok(Self::of(database))
    }

    fn of(database: Arc<Database>) -> Self {
        Self(Arc::new(Opening { database, closed: AtomicBool::new(false) }))
    }

    pub fn database(&self) -> &Arc<Database> {
        &self.0.database
    }

    fn backend(&self) -> &dyn Backend {
        &*self.0.database.backend
    }

    /// The backend for `operation`, or an error if the store is closed.
    fn open_backend(&self, operation: &str) -> Result<&dyn Backend> {
        self.0.database.availability.check_open(operation)?;
        Ok(self.backend())
    }

    pub fn kind(&self) -> StoreKind {
        self.0.database.kind
    }

    /// The schema of the tables as the server has the name; `None` in a store without schemas.
    pub fn schema(&self) -> Option<&str> {
        self.backend().schema()
    }

    /// A description for logs, without any password.
    pub fn describe(&self) -> String {
        self.0.database.availability.description().to_owned()
    }

    /// Closes the database when its last opening is closed. Running operations end first; later operations fail.
    pub async fn close(&self) {
        if self.0.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let database = &self.0.database;
        // While the database closes, no new opening may find it.
        let _files = OPEN_FILES.lock().await;
        if database.openings.fetch_sub(1, Ordering::AcqRel) == 1 {
            database.close().await;
        }
    }

    /// Adds the indexes and table settings that a large store needs, and returns what was missing. PostgreSQL only.
    pub async fn tune(&self) -> Result<Vec<String>, StoreError> {
        self.open_backend("tune")?.tune().await
    }

    /// The statements that give the role of this store the rights that it lacks. PostgreSQL only.
    pub async fn missing_rights(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.open_backend("missing_rights")?.missing_rights().await?)
    }

    /// Copies the store into a new file, as it is at one moment.
    pub async fn back_up(&self, target: &Path) -> Result<(), StoreError> {
        self.open_backend("backup")?.back_up(target).await
    }

    /// Makes this process the one that works on the store, or the next in line where only one process can.
    pub async fn begin_dispatching(&self) -> Result<(), StoreError> {
        Arc::clone(&self.0.database.backend).begin_dispatching().await
    }

    /// Lets other processes work on the store after a runtime has ended.
    pub async fn end_dispatching(&self) {
        self.backend().end_dispatching().await;
    }

    /// Whether this process works on the store. A standby and a mere client do not.
    pub fn is_at_work(&self) -> bool {
        self.backend().is_at_work()
    }

    /// The state of an instance; `None` if it does not exist.
    pub async fn instance_state(&self, instance: &str) -> Result<Option<InstanceState>, StoreError> {
        Ok(self.open_backend("get_instance_info")?.instance_state(instance).await?)
    }

    /// Which of these instances have ended: a message to them would be dropped.
    pub async fn ended(&self, instances: &[String]) -> Result<HashSet<String>, StoreError> {
        Ok(self.open_backend("get_instance_info")?.ended(instances).await?)
    }

    /// Whether `instance` exists, or its start is waiting in the queue.
    pub async fn exists(&self, instance: &str) -> Result<bool, StoreError> {
        Ok(self.backend().orchestration_of(instance).await?.is_some())
    }

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
        self.backend().start(requests, if_exists).await
    }

    /// Sends messages, all of them or none, in one transaction. A message to an instance that does not exist waits for
    /// it for a while.
    pub async fn send(&self, messages: Vec<WorkItem>) -> Result<(), StoreError> {
        let backend = self.open_backend("enqueue_for_orchestrator")?;
        if messages.is_empty() {
            return Ok(());
        }
        backend.send(messages).await
    }

    /// The key of the last row that was taken over from an outbox.
    pub async fn relayed(&self, outbox: &str) -> Result<Option<i64>, StoreError> {
        self.open_backend("relay")?.relayed(outbox).await
    }

    /// Takes over rows of an outbox. After an error it is unknown whether they were taken: read [`Self::relayed`]
    /// before a second try.
    pub async fn relay(&self, relay: Relay) -> Result<Relayed, StoreError> {
        self.open_backend("relay")?.relay(relay).await
    }
}

async fn open_file(path: &Path, durability: Durability) -> Result<Arc<Database>, StoreError> {
    let path = sqlite::locate(path)?;
    let mut files = OPEN_FILES.lock().await;
    files.retain(|_, file| file.database.strong_count() > 0);
    if let Some(file) = files.get(&path)
        && let Some(database) = file.database.upgrade()
        && !database.availability.is_closed()
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
        database.openings.fetch_add(1, Ordering::AcqRel);
        return Ok(database);
    }
    let opening = path.clone();
    let backend = Arc::new(unblocked(move || SqliteStore::open(&opening, durability)).await?);
    let availability = Availability::of(format!("SQLite file '{}'", path.display()));
    // A file that was just made has its canonical path only now.
    let path = sqlite::locate(&path)?;
    let database = Database::new(StoreKind::Sqlite, backend, availability);
    files.insert(path, OpenFile { database: Arc::downgrade(&database), durability });
    Ok(database)
}
