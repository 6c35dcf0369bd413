//! The one thread that writes: it takes what has gathered, makes one transaction of it, and tells the callers when that is on
//! the disk. What the disk cannot take now is kept and tried again; what it may have lost ends the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use duroxide::providers::ProviderError;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use crate::backoff::{LONGEST_PAUSE, pause_after};
use crate::sqlite::owner::OwnerCore;
use crate::sqlite::owner::disk::change::{Change, Totals};
use crate::sqlite::owner::disk::effect::Effect;
use crate::sqlite::owner::disk::health::Trouble;
use crate::sqlite::owner::memory::ids::Number;

/// More than this and the first of a batch waits for too many others.
const LARGEST_BATCH: usize = 512;
/// The log is written back when it is this long and nothing else is to do, or however busy it is at the longer length.
const LOG_PAGES_WHEN_IDLE: usize = 1000;
const LOG_PAGES_AT_MOST: usize = 16_000;
const PAGES_OF_A_COMMIT: usize = 4;
const PAGES_OF_A_TASK: usize = 64;
const IDLE: Duration = Duration::from_millis(100);
/// A lease that has lasted this long has its attempt written with the next batch; most are over before.
pub const NOTED_AFTER: Duration = Duration::from_millis(5);

pub type Answer = oneshot::Sender<Result<(), ProviderError>>;
/// Hears when changes are on the disk, or that they will never be.
pub type Written = oneshot::Receiver<Result<(), ProviderError>>;
/// OwnerSession that needs the connection to itself, in a transaction of its own; it answers its caller itself.
pub type Task = Box<dyn FnOnce(&mut Connection, &OwnerCore) + Send>;

/// CommitWatcher that become durable together or not at all.
pub struct Operation {
    /// Whose deletion makes the changes void.
    pub number: Option<Number>,
    pub changes: Vec<Change>,
    pub effect: Effect,
    pub answer: Option<Answer>,
}

impl Operation {
    /// CommitWatcher that nobody waits for.
    fn unasked(changes: Vec<Change>) -> Self {
        Self { number: None, changes, effect: Effect::None, answer: None }
    }
}

pub enum Job {
    Write(Operation),
    Task(Task),
    /// Everything before this is on the disk or has failed when it is answered; then the thread ends.
    Stop(crossbeam_channel::Sender<()>),
}

pub struct Writer {
    core: Arc<OwnerCore>,
    jobs: Receiver<Job>,
    batch: Vec<Operation>,
    /// About how long the log is, in pages.
    log_pages: usize,
    /// How long an attempt must have lasted to be noted.
    noted_after: Duration,
}

enum Ending {
    Idle,
    Stopped,
}

pub fn run(core: Arc<OwnerCore>, jobs: Receiver<Job>) {
    let mut writer = Writer { core, jobs, batch: Vec::new(), log_pages: 0, noted_after: NOTED_AFTER };
    while let Ending::Idle = writer.round() {}
}

impl Writer {
    /// Waits for work and does what has gathered.
    fn round(&mut self) -> Ending {
        let first = if self.log_pages >= LOG_PAGES_WHEN_IDLE {
            match self.jobs.recv_timeout(IDLE) {
                Err(RecvTimeoutError::Timeout) => {
                    self.write_back();
                    return Ending::Idle;
                }
                Err(RecvTimeoutError::Disconnected) => return Ending::Stopped,
                Ok(job) => job,
            }
        } else {
            match self.jobs.recv() {
                Ok(job) => job,
                Err(_) => return Ending::Stopped,
            }
        };
        let mut next = Some(first);
        loop {
            let job = match next.take() {
                Some(job) => job,
                None if self.batch.len() >= LARGEST_BATCH => break,
                None => match self.jobs.try_recv() {
                    Ok(job) => job,
                    Err(_) => break,
                },
            };
            match job {
                Job::Write(operation) => self.batch.push(operation),
                Job::Task(task) => {
                    self.commit();
                    self.perform(task);
                    return Ending::Idle;
                }
                Job::Stop(stopped) => {
                    self.noted_after = Duration::ZERO;
                    // Attempts that are under way count, although no other change carries them to the disk any more.
                    self.batch.push(Operation::unasked(Vec::new()));
                    self.commit();
                    self.write_back();
                    // Nobody listens when the caller was dropped.
                    stopped.send(()).ok();
                    return Ending::Stopped;
                }
            }
        }
        self.commit();
        Ending::Idle
    }

    /// Commits the batch and answers those who wait for it.
    fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.note_attempts();
        if self.settle().is_ok() {
            return;
        }
        // One of the operations contradicts the file; the others must not suffer from it.
        for operation in std::mem::take(&mut self.batch) {
            self.batch.push(operation);
            if let Err(conflict) = self.settle() {
                self.fail_all(&format!("the change contradicts what is recorded: {conflict}"));
            }
        }
        self.core.health.recover(&self.core);
    }

    /// Writes the batch, however often that takes, and answers; the error is a conflict, and the batch is then as it was.
    fn settle(&mut self) -> rusqlite::Result<()> {
        let mut failures = 0;
        loop {
            if let Some(reason) = self.core.health.broken() {
                self.fail_all(&reason);
                return Ok(());
            }
            let Err(error) = self.try_commit() else { break };
            if is_conflict(&error) {
                return Err(error);
            }
            match Trouble::of(&error) {
                Trouble::Passing => {
                    self.core.health.stall(&self.core, &error);
                    if self.core.health.wait_while_stalled(pause_after(failures, LONGEST_PAUSE)) {
                        self.fail_all("the store was closed before the disk took what was written");
                        return Ok(());
                    }
                    failures += 1;
                }
                Trouble::Lasting => self.core.health.fail(&self.core, &error.to_string()),
            }
        }
        self.core.health.recover(&self.core);
        self.finish();
        Ok(())
    }

    /// Adds the attempts that last.
    fn note_attempts(&mut self) {
        let changes = self.core.lock().running_attempts(Instant::now(), self.noted_after);
        if !changes.is_empty() {
            self.batch.push(Operation::unasked(changes));
        }
    }

    fn try_commit(&mut self) -> rusqlite::Result<()> {
        let core = Arc::clone(&self.core);
        let deleted = core.deleted.lock();
        let connection = core.connection.lock();
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let written = (|| {
            let mut totals = Totals::default();
            for operation in &self.batch {
                let is_void = operation.number.is_some_and(|number| deleted.contains(&number));
                for change in &operation.changes {
                    if is_void {
                        change.apply_void(&connection, &deleted)?;
                    } else {
                        change.apply(&connection, &mut totals, &deleted)?;
                    }
                }
            }
            totals.save(&connection)?;
            connection.prepare_cached("COMMIT")?.execute([])
        })();
        match written {
            Ok(_) => {
                drop(connection);
                // Only then is it known where it was written.
                core.files_in_place()?;
                Ok(())
            }
            Err(error) => {
                // A transaction that could not be written may have ended by itself.
                connection.execute_batch("ROLLBACK").ok();
                Err(error)
            }
        }
    }

    /// Makes the effects of the batch visible, then answers.
    fn finish(&mut self) {
        let core = Arc::clone(&self.core);
        let mut answers = Vec::with_capacity(self.batch.len());
        let mut pages = PAGES_OF_A_COMMIT;
        {
            let mut deleted = core.deleted.lock();
            let mut state = core.lock();
            for Operation { number, changes, effect, answer } in self.batch.drain(..) {
                pages += changes.iter().map(Change::pages).sum::<usize>();
                let is_void = number.is_some_and(|number| deleted.contains(&number));
                if let Effect::Forgotten(numbers) = &effect {
                    deleted.retain(|number| !numbers.contains(number));
                }
                effect.apply(&mut state, is_void);
                answers.extend(answer.map(|answer| (answer, is_void)));
            }
        }
        for (answer, is_void) in answers {
            let outcome = if is_void {
                Err(ProviderError::permanent("write", "Invalid lock token: the instance was deleted"))
            } else {
                Ok(())
            };
            // Whoever asked may be gone.
            answer.send(outcome).ok();
        }
        self.note_log(pages);
    }

    fn fail_all(&mut self, reason: &str) {
        let mut answers = Vec::new();
        {
            let mut state = self.core.lock();
            for operation in self.batch.drain(..) {
                operation.effect.undo(&mut state);
                answers.extend(operation.answer);
            }
        }
        for answer in answers {
            answer.send(Err(ProviderError::permanent("write", reason))).ok();
        }
    }

    fn perform(&mut self, task: Task) {
        let core = Arc::clone(&self.core);
        task(&mut core.connection.lock(), &core);
        if let Err(error) = core.files_in_place() {
            core.health.fail(&core, &error.to_string());
        }
        self.note_log(PAGES_OF_A_TASK);
    }

    /// Counts what the log has grown by. SQLite does not say; a few pages more or less make no difference.
    fn note_log(&mut self, pages: usize) {
        self.log_pages += pages;
        if self.log_pages >= LOG_PAGES_AT_MOST {
            self.write_back();
        }
    }

    /// Copies the log into the file, so that the log begins anew.
    fn write_back(&mut self) {
        if self.core.health.broken().is_some() {
            return;
        }
        let connection = self.core.connection.lock();
        let outcome: rusqlite::Result<(i64, i64, i64)> =
            connection
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        drop(connection);
        match outcome {
            // Readers may hold on to a part of it; the next attempt is after as many pages again.
            Ok(_) => self.log_pages = 0,
            Err(error) if Trouble::of(&error) == Trouble::Passing => self.log_pages = 0,
            Err(error) => self.core.health.fail(&self.core, &error.to_string()),
        }
    }
}

/// Whether it is the change that is wrong, and not the disk.
fn is_conflict(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig))
}
