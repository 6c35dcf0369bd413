//! The process that works on a file: memory says what is to be done, one thread writes, and an acknowledgement means that it
//! is on the disk.
//!
//! `state` and `activities` are what is held in memory, `mail` what is held back; `turns`, `turn_end`, `work` and `messages`
//! are the operations on them; `change` is what they write, `writer` the thread that does, `effect` what becomes visible then.

mod activities;
mod change;
mod deletion;
mod effect;
mod health;
mod load;
mod mail;
mod messages;
mod provider;
mod state;
mod timers;
mod turn_end;
mod turns;
mod waiters;
mod work;
mod writer;

use std::collections::HashSet;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender};
use duroxide::providers::{ProviderError, WorkItem};
use parking_lot::{Condvar, Mutex, MutexGuard};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::presence::Presence;
use super::read::{self, Readers};
use crate::store::error::{CLOSED, StoreError};
use crate::store::{IfExists, Standing, StartOutcome, StartRequest};
use change::Change;
use effect::Effect;
use health::Health;
pub(in crate::store) use messages::InboxPosition;
use state::{Number, State, Token};
use writer::{Job, Operation, Task, Written};

/// Hears the id of an instance that was deleted.
type TellDeletion = Box<dyn Fn(&str) + Send + Sync>;

/// How long a caller waits for a disk that takes nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of the process, so that the token of an owner that was closed is never one of the next.
static NEXT_TOKEN: AtomicU64 = AtomicU64::new(1);

/// What an owner is opened with.
pub(in crate::store) struct Opening {
    pub description: String,
    /// The writer's connection, on a file or in memory, with its tables made.
    pub connection: Connection,
    /// `None` for a store in memory, which has one connection.
    pub file: Option<PathBuf>,
    /// Give messages to turns as they come, as the engine's conformance suite expects.
    pub is_bare: bool,
}

struct Core {
    pub description: String,
    state: Mutex<State>,
    pub connection: Mutex<Connection>,
    readers: Option<Readers>,
    jobs: Sender<Job>,
    pub health: Health,
    /// Deleted while changes to them were on their way.
    pub deleted: Mutex<HashSet<Number>>,
    presence: Option<Presence>,
    told_deletions: OnceLock<TellDeletion>,
    timer: (Mutex<bool>, Condvar),
}

/// The owner of a file, or of a store in memory. Closing it ends its threads.
pub(in crate::store) struct Owner {
    core: Arc<Core>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Changes that are on their way to the disk.
pub(in crate::store) struct Accepted(Written);

/// The state under its lock; those who wait are woken when it is let go.
struct Locked<'a> {
    core: &'a Core,
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

impl Core {
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
    fn close_connection(&self) {
        let Ok(nowhere) = Connection::open_in_memory() else { return };
        let connection = std::mem::replace(&mut *self.connection.lock(), nowhere);
        if self.health.broken().is_none() {
            // What fails here is done by the next who opens the file.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).ok();
        }
        drop(connection);
    }

    fn files_in_place(&self) -> rusqlite::Result<()> {
        self.presence.as_ref().map_or(Ok(()), Presence::check)
    }

    /// Runs `task` when all that was sent before is on the disk.
    pub async fn perform<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Connection, &Core) -> Result<R, ProviderError> + Send + 'static,
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

impl Owner {
    /// Takes over a file: loads what is waiting in it, and starts the threads.
    pub fn open(opening: Opening) -> Result<Arc<Self>, StoreError> {
        let Opening { description, connection, file, is_bare } = opening;
        let state = load::state(&connection, is_bare).map_err(|error| {
            StoreError::Unavailable(format!("{description} cannot be read: {error}; restore it from a backup"))
        })?;
        let (jobs, receiver) = crossbeam_channel::unbounded();
        let presence = file.as_deref().map(Presence::of).transpose()?;
        let core = Arc::new(Core {
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
        });
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map_err(|error| StoreError::Unavailable(format!("no thread can be started: {error}")))
        };
        let writer = Arc::clone(&core);
        let timers = Arc::clone(&core);
        let threads = vec![
            spawn("duroxide-writer", Box::new(move || writer::run(writer, receiver)))?,
            spawn("duroxide-timers", Box::new(move || timers::run(&timers)))?,
        ];
        Ok(Arc::new(Self { core, threads: Mutex::new(threads) }))
    }

    /// Starts instances, all of them or none.
    pub async fn start(
        &self,
        requests: Vec<StartRequest>,
        if_exists: IfExists,
    ) -> Result<Vec<StartOutcome>, StoreError> {
        self.core.admit("start_orchestration").await?;
        let (outcomes, accepted) = self.submit_starts(requests, if_exists, None)?;
        self.core.settled_in_time(accepted.0).await?;
        Ok(outcomes)
    }

    /// Sends messages, all of them or none.
    pub async fn send(&self, messages: Vec<WorkItem>) -> Result<(), ProviderError> {
        self.core.send_messages(messages, 0).await
    }

    /// As [`Self::start`], without waiting for the disk.
    pub fn submit_starts(
        &self,
        requests: Vec<StartRequest>,
        if_exists: IfExists,
        position: Option<InboxPosition>,
    ) -> Result<(Vec<StartOutcome>, Accepted), StoreError> {
        let (outcomes, written) = self.core.submit_starts(requests, if_exists, position)?;
        Ok((outcomes, Accepted(written)))
    }

    /// As [`Self::send`], without waiting for the disk.
    pub fn submit_messages(
        &self,
        messages: Vec<WorkItem>,
        visible_ms: u64,
        position: Option<InboxPosition>,
    ) -> Result<Accepted, ProviderError> {
        self.core.submit_messages(messages, visible_ms, position).map(Accepted)
    }

    /// Waits until what was accepted is on the disk.
    pub async fn settled(&self, accepted: Accepted) -> Result<(), ProviderError> {
        self.core.settled(accepted.0).await
    }

    /// Records up to where an inbox was read.
    pub async fn note_position(&self, position: InboxPosition) -> Result<(), ProviderError> {
        self.core.settled(self.core.write(Vec::new(), Vec::new(), Some(position))).await
    }

    /// Up to where the inbox of that name was read.
    pub fn inbox_position(&self, inbox: &str) -> Result<i64, ProviderError> {
        self.core.read("read_inbox", |connection| read::inbox_position(connection, inbox))
    }

    /// The orchestration that an instance runs, or that a waiting start will run.
    pub fn running(&self, id: &str) -> Result<Option<String>, ProviderError> {
        Ok(self.core.running(id)?.map(|orchestration| orchestration.to_string()))
    }

    pub fn standing(&self, id: &str) -> Result<Option<Standing>, ProviderError> {
        self.core.read("get_instance_info", |connection| read::standing(connection, id))
    }

    pub fn mismatch(&self, id: &str) -> Result<Option<String>, ProviderError> {
        self.core.read("get_instance_info", |connection| read::mismatch(connection, id))
    }

    /// Records why an instance waits, until its next turn is recorded.
    pub fn note_mismatch(&self, id: &str, report: &str) {
        self.core.note_mismatch(id, report);
    }

    /// Copies what is committed into a new file, while work goes on.
    pub fn back_up(&self, target: &Path) -> Result<(), ProviderError> {
        self.core.read("backup", |connection| read::back_up(connection, target))
    }

    /// Has `tell` called with the id of every instance that is deleted, whoever deletes it.
    pub fn on_deletion(&self, tell: impl Fn(&str) + Send + Sync + 'static) {
        // An owner is told once what to do.
        self.core.told_deletions.set(Box::new(tell)).ok();
    }

    pub fn lasts_while_busy(&self, token: &str, is_busy: &Arc<AtomicBool>) {
        if let Ok(token) = token.parse() {
            self.core.lock().lasts_while_busy(token, is_busy);
        }
    }

    /// Ends when all that was sent is on the disk, or cannot get there.
    pub async fn close(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        if threads.is_empty() {
            return;
        }
        let core = Arc::clone(&self.core);
        let closed = tokio::task::spawn_blocking(move || {
            if core.health.stalled().is_some() || core.health.broken().is_some() {
                core.health.give_up();
            }
            let (sender, stopped) = crossbeam_channel::bounded(1);
            core.send(Job::Stop(sender));
            while stopped.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) && core.health.stalled().is_none() {
                // The writer is at work; a disk that takes nothing is not waited for.
            }
            core.health.give_up();
            timers::stop(&core);
            for thread in threads {
                // A thread that panicked has said so.
                thread.join().ok();
            }
            // Their fetches end with nothing.
            drop(core.lock().take_waiters());
            if let Some(readers) = &core.readers {
                readers.close();
                core.close_connection();
            }
        })
        .await;
        if let Err(error) = closed {
            tracing::error!(target: "duroxide::store", "{} was not closed: {error}", self.core.description);
        }
    }
}

#[cfg(test)]
impl Owner {
    /// Makes the history of an instance unreadable.
    pub(in crate::store) fn corrupt_history(&self, id: &str) {
        let connection = self.core.connection.lock();
        let sql = "UPDATE events SET data = '?' WHERE instance = (SELECT number FROM instances WHERE id = ?1)";
        connection.execute(sql, [id]).unwrap();
        drop(connection);
        let number = self.core.lock().numbers.get(id).copied();
        if let Some(number) = number
            && let Some(instance) = self.core.lock().get(number)
        {
            instance.history = None;
            instance.mail = None;
        }
    }

    /// How often the messages that wait for an instance were handed out, at most.
    pub(in crate::store) fn attempts(&self, id: &str) -> u32 {
        let mut state = self.core.lock();
        let number = state.numbers[id];
        let instance = state.get(number).unwrap();
        let taken = instance.held.iter().flat_map(|held| &held.taken);
        let messages = instance.queue.iter().chain(instance.delayed.values()).chain(instance.put_off.values());
        let messages = messages.chain(taken);
        messages.map(|message| message.attempts).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
