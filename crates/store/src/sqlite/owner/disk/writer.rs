//! The writer thread: it takes all waiting operations, commits them as one transaction, and then answers the callers.
//!
//! While the disk accepts no writes, the thread keeps the operations and tries again. After a failure that may have
//! lost data, it ends the work on the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rusqlite::ErrorCode;

use crate::backoff::{LONGEST_PAUSE, pause_after};
use crate::failure::Failure;
use crate::sqlite::owner::core::OwnerCore;
use crate::sqlite::owner::disk::change::Change;
use crate::sqlite::owner::disk::effect::CommitEffect;
use crate::sqlite::owner::disk::health::DiskFailure;
use crate::sqlite::owner::disk::job::{WriteOperation, WriterJob, WriterTask};
use crate::sqlite::owner::disk::totals::Totals;

/// With a larger batch, its first operation would wait too long for the others.
const LARGEST_BATCH: usize = 512;
/// An idle writer copies the log into the file from this length on.
const LOG_PAGES_WHEN_IDLE: usize = 1000;
/// A busy writer copies the log into the file from this length on.
const LOG_PAGES_AT_MOST: usize = 16_000;
const PAGES_OF_A_COMMIT: usize = 4;
const PAGES_OF_A_TASK: usize = 64;
const IDLE: Duration = Duration::from_millis(100);
/// The next batch records the attempt of a turn that has lasted this long. Most turns end earlier.
pub const ATTEMPT_RECORDED_AFTER: Duration = Duration::from_millis(5);

pub struct Writer {
    core: Arc<OwnerCore>,
    jobs: Receiver<WriterJob>,
    batch: Vec<WriteOperation>,
    /// The approximate length of the log in pages.
    log_pages: usize,
    /// How long a turn must have lasted before its attempt is recorded.
    attempt_recorded_after: Duration,
}

enum RoundResult {
    Continue,
    Stopped,
}

pub fn run(core: Arc<OwnerCore>, jobs: Receiver<WriterJob>) {
    let mut writer =
        Writer { core, jobs, batch: Vec::new(), log_pages: 0, attempt_recorded_after: ATTEMPT_RECORDED_AFTER };
    while let RoundResult::Continue = writer.round() {}
}

impl Writer {
    /// Waits for a job, and then does all jobs that are waiting.
    fn round(&mut self) -> RoundResult {
        let first = if self.log_pages >= LOG_PAGES_WHEN_IDLE {
            match self.jobs.recv_timeout(IDLE) {
                Err(RecvTimeoutError::Timeout) => {
                    self.checkpoint();
                    return RoundResult::Continue;
                }
                Err(RecvTimeoutError::Disconnected) => return RoundResult::Stopped,
                Ok(job) => job,
            }
        } else {
            match self.jobs.recv() {
                Ok(job) => job,
                Err(_) => return RoundResult::Stopped,
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
                WriterJob::Write(operation) => self.batch.push(operation),
                WriterJob::Task(task) => {
                    self.commit();
                    self.perform(task);
                    return RoundResult::Continue;
                }
                WriterJob::Stop(stopped) => {
                    self.attempt_recorded_after = Duration::ZERO;
                    // This empty operation makes a commit, which records the attempts of the running turns.
                    self.batch.push(WriteOperation::without_answer(Vec::new()));
                    self.commit();
                    self.checkpoint();
                    self.clear_log();
                    // The caller may have been dropped.
                    stopped.send(()).ok();
                    return RoundResult::Stopped;
                }
            }
        }
        self.commit();
        RoundResult::Continue
    }

    /// Commits the batch, and answers the callers.
    fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.add_attempts();
        if self.commit_with_retries().is_ok() {
            return;
        }
        // One of the operations conflicts with the file. Separate commits let the others succeed.
        for operation in std::mem::take(&mut self.batch) {
            self.batch.push(operation);
            if let Err(conflict) = self.commit_with_retries() {
                self.fail_all(&format!("the change conflicts with the recorded state: {conflict}"));
            }
        }
        self.core.health.recover();
    }

    /// Commits the batch, with as many attempts as needed, and answers. It fails only for a conflict, and then leaves
    /// the batch unchanged.
    fn commit_with_retries(&mut self) -> rusqlite::Result<()> {
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
            // The disk never accepts a write to a file that is gone.
            let error = self.core.check_files().err().unwrap_or(error);
            match DiskFailure::of(&error) {
                DiskFailure::Temporary => {
                    self.core.health.stall(&error);
                    if self.core.health.wait_while_stalled(pause_after(failures, LONGEST_PAUSE)) {
                        self.fail_all("the store was closed before the disk accepted the write");
                        return Ok(());
                    }
                    failures += 1;
                }
                DiskFailure::Permanent => self.core.health.fail(&error.to_string()),
            }
        }
        self.core.health.recover();
        self.finish();
        Ok(())
    }

    /// Adds the attempts of long turns to the batch.
    fn add_attempts(&mut self) {
        let changes = self.core.lock().attempts_to_record(Instant::now(), self.attempt_recorded_after);
        if !changes.is_empty() {
            self.batch.push(WriteOperation::without_answer(changes));
        }
    }

    fn try_commit(&mut self) -> rusqlite::Result<()> {
        let core = Arc::clone(&self.core);
        let deleted = core.deleted.lock();
        let connection = core.connection.lock();
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let written = (|| {
            // Another owner begins with a transaction of its own, so it sees this one, or this check sees its lock.
            core.check_files()?;
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
                // The check before the commit missed a file that was replaced in between.
                core.check_files()?;
                Ok(())
            }
            Err(error) => {
                // SQLite may have ended the transaction already, so the failure of this statement is ignored.
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
            for WriteOperation { number, changes, effect, answer } in self.batch.drain(..) {
                pages += changes.iter().map(Change::pages).sum::<usize>();
                let is_void = number.is_some_and(|number| deleted.contains(&number));
                if let CommitEffect::ForgetDeleted(numbers) = &effect {
                    deleted.retain(|number| !numbers.contains(number));
                }
                effect.apply(&mut state, is_void);
                answers.extend(answer.map(|answer| (answer, is_void)));
            }
        }
        for (answer, is_void) in answers {
            let outcome = if is_void {
                Err(Failure::lock_lost("write", "Invalid lock token: the instance was deleted"))
            } else {
                Ok(())
            };
            // The caller may have been dropped.
            answer.send(outcome).ok();
        }
        self.count_log_pages(pages);
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
            answer.send(Err(Failure::refused("write", reason))).ok();
        }
    }

    fn perform(&mut self, task: WriterTask) {
        let core = Arc::clone(&self.core);
        if let Err(error) = core.check_files() {
            // The caller gets this failure when the task is dropped.
            return core.health.fail(&error.to_string());
        }
        task(&mut core.connection.lock());
        if let Err(error) = core.check_files() {
            core.health.fail(&error.to_string());
        }
        self.count_log_pages(PAGES_OF_A_TASK);
    }

    /// Counts the growth of the log. SQLite does not report it, and an approximate number is enough.
    fn count_log_pages(&mut self, pages: usize) {
        self.log_pages += pages;
        if self.log_pages >= LOG_PAGES_AT_MOST {
            self.checkpoint();
        }
    }

    /// Copies the log into the file, so that SQLite overwrites the log from its beginning.
    fn checkpoint(&mut self) {
        if self.core.health.broken().is_some() {
            return;
        }
        let connection = self.core.connection.lock();
        let outcome: rusqlite::Result<(i64, i64, i64)> =
            connection
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        drop(connection);
        match outcome {
            // Readers may still need a part of the log. The next attempt comes after the same number of pages.
            Ok(_) => self.log_pages = 0,
            Err(error) if DiskFailure::of(&error) == DiskFailure::Temporary => self.log_pages = 0,
            Err(error) => self.core.health.fail(&error.to_string()),
        }
    }

    /// Empties the log if it may hold what was deleted. If a reader still uses the log, the pages stay until the next end
    /// or until SQLite overwrites them.
    fn clear_log(&self) {
        if self.core.health.broken().is_none() && self.core.log_holds_deleted.swap(false, Ordering::AcqRel) {
            let connection = self.core.connection.lock();
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
    }
}

/// Whether the error comes from the change and not from the disk.
fn is_conflict(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig))
}
