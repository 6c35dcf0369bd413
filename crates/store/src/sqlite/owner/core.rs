//! The core of an owner, which its operations and threads share: the state behind a lock, the connections, and the
//! channel to the writer thread.

use std::collections::HashSet;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex, MutexGuard};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::error::{Result, StoreError};
use crate::events::StoreEvents;
use crate::failure::Failure;
use crate::session_limits::SessionLimits;
use crate::sqlite::file::guard::FileGuard;
use crate::sqlite::owner::disk::change::Change;
use crate::sqlite::owner::disk::effect::CommitEffect;
use crate::sqlite::owner::disk::health::Health;
use crate::sqlite::owner::disk::job::{WriteOperation, WriterJob, WriterTask, Written};
use crate::sqlite::owner::disk::records;
use crate::sqlite::owner::memory::ids::{Number, Token};
use crate::sqlite::owner::memory::state::OwnerState;
use crate::sqlite::owner::options::OwnerOptions;
use crate::sqlite::read::Readers;

/// How long a caller waits for a disk that accepts no writes.
pub const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// The next token. The whole process shares it, so that no two owners use the same token.
static NEXT_TOKEN: AtomicU64 = AtomicU64::new(1);

/// The state, the connections and the channel that the operations and threads of an owner share.
pub struct OwnerCore {
    pub description: String,
    /// See [`Self::lock`].
    state: Mutex<OwnerState>,
    pub connection: Mutex<Connection>,
    readers: Option<Readers>,
    pub jobs: Sender<WriterJob>,
    pub health: Health,
    /// Deleted instances to which the writer may still have changes.
    pub deleted: Mutex<HashSet<Number>>,
    /// Whether the log may hold pages of instances that were deleted: they stay until SQLite overwrites them.
    pub log_holds_deleted: AtomicBool,
    guard: Option<FileGuard>,
    /// Gets the deletions, and reports what this process can run.
    pub events: OnceLock<Arc<dyn StoreEvents>>,
    /// Wakes the timer thread.
    pub timer: (Mutex<bool>, Condvar),
    pub session_limits: Arc<SessionLimits>,
}

/// The state while its lock is held. Dropping this releases the lock, and then wakes the waiting fetches.
pub struct LockedState<'a> {
    core: &'a OwnerCore,
    state: Option<MutexGuard<'a, OwnerState>>,
}

impl Deref for LockedState<'_> {
    type Target = OwnerState;

    fn deref(&self) -> &OwnerState {
        // Only the destructor takes the state out.
        self.state.as_ref().expect("the state is locked")
    }
}

impl DerefMut for LockedState<'_> {
    fn deref_mut(&mut self) -> &mut OwnerState {
        self.state.as_mut().expect("the state is locked")
    }
}

impl Drop for LockedState<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.state.take() else { return };
        let wake_ups = std::mem::take(&mut state.wake_ups);
        let must_wake_timers = state.must_wake_timers();
        drop(state);
        for wake_up in wake_ups {
            // A fetch that has ended since then has passed its wake-up on to another one.
            wake_up.send(()).ok();
        }
        if must_wake_timers {
            *self.core.timer.0.lock() = true;
            self.core.timer.1.notify_one();
        }
    }
}

impl OwnerCore {
    /// Loads the waiting work from the file. `jobs` leads to the writer thread.
    pub fn load(opening: OwnerOptions, jobs: Sender<WriterJob>) -> Result<Self, StoreError> {
        let OwnerOptions { description, connection, file, lock, policy, session_limits } = opening;
        let state = records::waiting_work(&connection, policy).map_err(|error| {
            StoreError::Unavailable(format!("{description} cannot be read: {error}; restore it from a backup"))
        })?;
        let guard = file.as_deref().map(|file| FileGuard::of(file, lock)).transpose()?;
        let health = Health::new(description.clone());
        Ok(Self {
            description,
            state: Mutex::new(state),
            connection: Mutex::new(connection),
            readers: file.as_deref().map(Readers::new),
            jobs,
            health,
            deleted: Mutex::default(),
            log_holds_deleted: AtomicBool::new(false),
            guard,
            events: OnceLock::new(),
            timer: (Mutex::new(false), Condvar::new()),
            session_limits,
        })
    }

    pub fn lock(&self) -> LockedState<'_> {
        LockedState { core: self, state: Some(self.state.lock()) }
    }

    /// Reads the committed state.
    pub fn read<R>(&self, operation: &'static str, query: impl FnOnce(&Connection) -> Result<R>) -> Result<R> {
        if let Some(reason) = self.health.broken() {
            return Err(Failure::unusable(operation, reason));
        }
        let outcome = match &self.readers {
            Some(readers) => readers.read(operation, query),
            None => query(&self.connection.lock()),
        };
        outcome.map_err(|failure| self.explain(operation, failure))
    }

    /// Checks after a failed read whether the store can still be used.
    fn explain(&self, operation: &'static str, failure: Failure) -> Failure {
        if let Err(reason) = self.check_files() {
            self.health.fail(&reason.to_string());
        }
        match self.health.broken() {
            Some(reason) => Failure::unusable(operation, reason),
            None => failure,
        }
    }

    /// Sends a job to the writer thread. Where the order matters, the caller must hold the lock of the state.
    pub fn send(&self, job: WriterJob) {
        // Sending fails only after the writer has ended, when the store is closed. The answer is then dropped.
        self.jobs.send(job).ok();
    }

    /// Sends changes to the writer thread. They become void when the instance `number` is deleted.
    pub fn submit(&self, number: Option<Number>, changes: Vec<Change>, effect: CommitEffect) -> Written {
        let (answer, written) = oneshot::channel();
        self.send(WriterJob::Write(WriteOperation { number, changes, effect, answer: Some(answer) }));
        written
    }

    /// As [`Self::submit`], for changes that no caller waits for.
    pub fn submit_and_forget(&self, number: Option<Number>, changes: Vec<Change>, effect: CommitEffect) {
        self.send(WriterJob::Write(WriteOperation { number, changes, effect, answer: None }));
    }

    /// Waits without a limit until the changes are on the disk.
    pub async fn wait_until_written(&self, written: Written) -> Result<()> {
        written.await.unwrap_or_else(|_| Err(Failure::closed("write")))
    }

    /// As [`Self::wait_until_written`], but fails when the disk accepts no writes.
    pub async fn wait_until_written_or_stalled(&self, mut written: Written) -> Result<()> {
        loop {
            let waited = timeout(DISK_TIMEOUT, &mut written).await;
            if let Ok(outcome) = waited {
                return outcome.unwrap_or_else(|_| Err(Failure::closed("write")));
            }
            if let Some(reason) = self.health.stalled() {
                let message =
                    format!("{reason}; it is not recorded yet, and will be when the disk accepts writes again");
                return Err(Failure::in_doubt("write", message));
            }
        }
    }

    /// Waits while the disk accepts no writes, and then refuses new work if it still accepts none.
    pub async fn admit(&self, operation: &str) -> Result<()> {
        if let Some(reason) = self.health.broken() {
            return Err(Failure::unusable(operation, reason));
        }
        if self.health.stalled().is_none() {
            return Ok(());
        }
        let recovered = async {
            while self.health.stalled().is_some() {
                // The timeout catches a change between the check and the wait.
                let _ = timeout(Duration::from_millis(100), self.health.changes.notified()).await;
            }
        };
        if timeout(DISK_TIMEOUT, recovered).await.is_err()
            && let Some(reason) = self.health.stalled()
        {
            return Err(Failure::not_applied(operation, format!("{reason}; nothing was recorded, try again later")));
        }
        match self.health.broken() {
            Some(reason) => Err(Failure::unusable(operation, reason)),
            None => Ok(()),
        }
    }

    pub fn token() -> Token {
        NEXT_TOKEN.fetch_add(1, Ordering::Relaxed)
    }

    /// Closes the file, although other parts of the process may still have this core. SQLite copies the log into the
    /// file and deletes the log, unless another process reads it.
    pub fn close_file(&self) {
        // A store in memory lasts as long as this core.
        let Some(readers) = &self.readers else { return };
        readers.close();
        let Ok(placeholder) = Connection::open_in_memory() else { return };
        let connection = std::mem::replace(&mut *self.connection.lock(), placeholder);
        if self.health.broken().is_none() {
            // If this fails, the next owner copies the log into the file.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).ok();
        }
        drop(connection);
    }

    pub fn check_files(&self) -> rusqlite::Result<()> {
        self.guard.as_ref().map_or(Ok(()), FileGuard::check)
    }

    /// Runs `task` on the writer thread, after all jobs that were sent before.
    pub async fn perform<R: Send + 'static>(
        self: &Arc<Self>,
        task: impl FnOnce(&mut Connection, &OwnerCore) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let (sender, receiver) = oneshot::channel();
        let core = Arc::clone(self);
        let task: WriterTask = Box::new(move |connection| {
            // The caller may have been dropped.
            sender.send(task(connection, &core)).ok();
        });
        self.send(WriterJob::Task(task));
        receiver.await.unwrap_or_else(|_| {
            Err(match self.health.broken() {
                Some(reason) => Failure::unusable("write", reason),
                None => Failure::closed("write"),
            })
        })
    }
}
