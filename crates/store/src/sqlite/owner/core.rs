//! What the operations on an owned file and its threads share: the state under its lock, the file, and the way to the writer.

use std::collections::HashSet;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use duroxide::providers::ProviderError;
use parking_lot::{Condvar, Mutex, MutexGuard};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::error::{CLOSED, StoreError};
use crate::sqlite::file::guard::FileGuard;
use crate::sqlite::owner::OwnerOptions;
use crate::sqlite::owner::disk::change::Change;
use crate::sqlite::owner::disk::effect::Effect;
use crate::sqlite::owner::disk::health::Health;
use crate::sqlite::owner::disk::writer::{Job, Operation, Task, Written};
use crate::sqlite::owner::memory::ids::{Number, Token};
use crate::sqlite::owner::memory::state::State;
use crate::sqlite::owner::operations::load;
use crate::sqlite::read::Readers;

/// Hears the id of an instance that was deleted.
type TellDeletion = Box<dyn Fn(&str) + Send + Sync>;

/// How long a caller waits for a disk that takes nothing.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Of the process, so that the token of an owner that was closed is never one of the next.
static NEXT_TOKEN: AtomicU64 = AtomicU64::new(1);

/// What all of an owner's operations and threads share.
pub struct OwnerCore {
    pub description: String,
    /// See [`Self::lock`].
    state: Mutex<State>,
    pub connection: Mutex<Connection>,
    readers: Option<Readers>,
    pub jobs: Sender<Job>,
    pub health: Health,
    /// Deleted while changes to them were on their way.
    pub deleted: Mutex<HashSet<Number>>,
    presence: Option<FileGuard>,
    pub told_deletions: OnceLock<TellDeletion>,
    pub timer: (Mutex<bool>, Condvar),
}

/// The state under its lock; those who wait are woken when it is let go.
pub struct Locked<'a> {
    core: &'a OwnerCore,
    state: Option<MutexGuard<'a, State>>,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        // Taken by the destructor alone.
        self.state.as_ref().expect("the state is locked")
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.state.as_mut().expect("the state is locked")
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.state.take() else { return };
        let bells = std::mem::take(&mut state.bells);
        let timer_moved = state.takes_timers_by_surprise();
        drop(state);
        for bell in bells {
            // Whoever left meanwhile has woken another.
            bell.send(()).ok();
        }
        if timer_moved {
            *self.core.timer.0.lock() = true;
            self.core.timer.1.notify_one();
        }
    }
}

impl OwnerCore {
    /// Loads what is waiting in the file; what is to be written goes to `jobs`.
    pub fn load(opening: OwnerOptions, jobs: Sender<Job>) -> Result<Self, StoreError> {
        let OwnerOptions { description, connection, file, policy } = opening;
        let state = load::state(&connection, policy).map_err(|error| {
            StoreError::Unavailable(format!("{description} cannot be read: {error}; restore it from a backup"))
        })?;
        let presence = file.as_deref().map(FileGuard::of).transpose()?;
        Ok(Self {
            description,
            state: Mutex::new(state),
            connection: Mutex::new(connection),
            readers: file.as_deref().map(Readers::new),
            jobs,
            health: Health::default(),
            deleted: Mutex::default(),
            presence,
            told_deletions: OnceLock::new(),
            timer: (Mutex::new(false), Condvar::new()),
        })
    }

    pub fn lock(&self) -> Locked<'_> {
        Locked { core: self, state: Some(self.state.lock()) }
    }

    /// Reads what is committed.
    pub fn read<R>(
        &self,
        operation: &'static str,
        look: impl FnOnce(&Connection) -> Result<R, ProviderError>,
    ) -> Result<R, ProviderError> {
        if let Some(reason) = self.health.broken() {
            return Err(ProviderError::permanent(operation, reason));
        }
        let outcome = match &self.readers {
            Some(readers) => readers.read(operation, look),
            None => look(&self.connection.lock()),
        };
        outcome.map_err(|error| self.explain(operation, error))
    }

    /// What fails in reading may be the end of the store.
    fn explain(&self, operation: &'static str, error: ProviderError) -> ProviderError {
        if let Err(reason) = self.files_in_place() {
            self.health.fail(self, &reason.to_string());
        }
        match self.health.broken() {
            Some(reason) => ProviderError::permanent(operation, reason),
            None => error,
        }
    }

    /// Sends to the writer, which must be done while the state is locked wherever the order matters.
    pub fn send(&self, job: Job) {
        // The writer outlives every sender but for the time of closing, when answers are dropped.
        self.jobs.send(job).ok();
    }

    /// As [`Self::send`] for changes that are void once the instance of `number` is deleted.
    pub fn submit(&self, number: Option<Number>, changes: Vec<Change>, effect: Effect) -> Written {
        let (answer, written) = oneshot::channel();
        self.send(Job::Write(Operation { number, changes, effect, answer: Some(answer) }));
        written
    }

    /// As [`Self::submit`] where nobody waits for it.
    pub fn submit_and_forget(&self, number: Option<Number>, changes: Vec<Change>, effect: Effect) {
        self.send(Job::Write(Operation { number, changes, effect, answer: None }));
    }

    /// Waits until what was sent is on the disk, however long that takes.
    pub async fn settled(&self, written: Written) -> Result<(), ProviderError> {
        written.await.unwrap_or_else(|_| Err(ProviderError::permanent("write", CLOSED)))
    }

    /// As [`Self::settled`] for a caller who wants to hear it when the disk takes nothing.
    pub async fn settled_in_time(&self, mut written: Written) -> Result<(), ProviderError> {
        loop {
            let waited = timeout(PATIENCE, &mut written).await;
            if let Ok(outcome) = waited {
                return outcome.unwrap_or_else(|_| Err(ProviderError::permanent("write", CLOSED)));
            }
            if let Some(reason) = self.health.stalled() {
                let message = format!("{reason}; it is not yet recorded, and will be when the disk takes it");
                return Err(ProviderError::retryable("write", message));
            }
        }
    }

    /// Refuses to take in more while the disk takes nothing, after waiting for it.
    pub async fn admit(&self, operation: &str) -> Result<(), ProviderError> {
        if let Some(reason) = self.health.broken() {
            return Err(ProviderError::permanent(operation, reason));
        }
        if self.health.stalled().is_none() {
            return Ok(());
        }
        let well = async {
            while self.health.stalled().is_some() {
                // A change between the look and the wait is seen a moment later.
                let _ = timeout(Duration::from_millis(100), self.health.news.notified()).await;
            }
        };
        if timeout(PATIENCE, well).await.is_err()
            && let Some(reason) = self.health.stalled()
        {
            return Err(ProviderError::retryable(
                operation,
                format!("{reason}; nothing was recorded, try again later"),
            ));
        }
        match self.health.broken() {
            Some(reason) => Err(ProviderError::permanent(operation, reason)),
            None => Ok(()),
        }
    }

    pub fn token() -> Token {
        NEXT_TOKEN.fetch_add(1, Ordering::Relaxed)
    }

    /// Closes the file while others may still hold on to this. SQLite writes the log back and removes it, unless another
    /// process reads it.
    pub fn close_file(&self) {
        // A store in memory lasts as long as anybody holds on to it.
        let Some(readers) = &self.readers else { return };
        readers.close();
        let Ok(nowhere) = Connection::open_in_memory() else { return };
        let connection = std::mem::replace(&mut *self.connection.lock(), nowhere);
        if self.health.broken().is_none() {
            // What fails here is done by the next who opens the file.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).ok();
        }
        drop(connection);
    }

    pub fn files_in_place(&self) -> rusqlite::Result<()> {
        self.presence.as_ref().map_or(Ok(()), FileGuard::check)
    }

    /// Runs `task` when all that was sent before is on the disk.
    pub async fn perform<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Connection, &OwnerCore) -> Result<R, ProviderError> + Send + 'static,
    ) -> Result<R, ProviderError> {
        let (sender, receiver) = oneshot::channel();
        let task: Task = Box::new(move |connection, core| {
            // Whoever asked may be gone.
            sender.send(task(connection, core)).ok();
        });
        self.send(Job::Task(task));
        receiver.await.unwrap_or_else(|_| Err(ProviderError::permanent("write", CLOSED)))
    }
}
