//! The store as a client process uses it: the client reads the file and writes its requests into the inbox.
//!
//! [`ClientStore`] blocks. [`provider`] is the engine's view of it, and calls it on threads that may block. [`starts`]
//! decides about starts, and [`commit_watcher`] waits for commits of the owner.

pub mod commit_watcher;
pub mod provider;
pub mod starts;
#[cfg(test)]
pub mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::providers::{DeleteInstanceResult, InstanceFilter, PruneOptions, PruneResult, WorkItem};
use parking_lot::Mutex;
use rusqlite::Connection;

use crate::error::StoreError;
use crate::live::LiveState;
use crate::sqlite::client::commit_watcher::CommitWatcher;
use crate::sqlite::file::lock::{LockHandle, LockHolder};
use crate::sqlite::file::watcher::{EventCount, FileWatcher, PollIntervals};
use crate::sqlite::file::{paths, schema};
use crate::sqlite::inbox::{Body, Inbox, InboxAnswer, InboxReply, InboxTransaction, RequestState};
use crate::sqlite::read;
use crate::sqlite::read::Readers;
use crate::termination::Termination;

/// How often a client checks for its answer, and whether the owner is still there.
const ANSWER_INTERVALS: PollIntervals =
    PollIntervals { with_notices: Duration::from_millis(20), without_notices: Duration::from_millis(5) };
/// How long to wait for the answer of an owner. It answers only when its disk accepts writes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait for a description. The file has a part of it, too.
const DESCRIPTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long another process may take to create or upgrade the file.
const PREPARATION_TIMEOUT: Duration = Duration::from_secs(60);

/// Becomes the owner for a moment, carries out the backlog and then the given request, and stops being the owner.
/// `None` if another process has become the owner first.
pub type TemporaryOwner = Box<dyn Fn(&Body) -> Result<Option<InboxReply>, StoreError> + Send + Sync>;

/// The store at a path, for a process that is not its owner.
pub struct ClientStore {
    path: PathBuf,
    lock: LockHandle,
    readers: Arc<Readers>,
    inbox: Mutex<Inbox>,
    answers: FileWatcher,
    commits: CommitWatcher,
    temporary_owner: TemporaryOwner,
}

/// How the wait for the answer to a request ended.
enum WaitOutcome {
    Answered(InboxAnswer),
    /// The owner ended, and the request is still in the inbox.
    OwnerEnded,
}

impl ClientStore {
    /// Opens the store at `path`, which must be absolute and canonical. Creates it if it does not exist.
    pub fn open(path: &Path, temporary_owner: TemporaryOwner) -> Result<Self, StoreError> {
        let lock = LockHandle::new(path)?;
        prepare(path, &lock)?;
        let inbox = Inbox::open(path)?;
        let readers = Arc::new(Readers::new(path));
        Ok(Self {
            path: path.to_owned(),
            lock,
            answers: FileWatcher::of(inbox.file(), ANSWER_INTERVALS, Arc::new(EventCount::default())),
            commits: CommitWatcher::of(path),
            inbox: Mutex::new(inbox),
            readers,
            temporary_owner,
        })
    }

    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Waits for commits of other processes.
    pub fn commits(&self) -> &CommitWatcher {
        &self.commits
    }

    /// Sends messages, all of them or none. They are on the disk when this returns, and an owner will deliver them.
    pub fn send(&self, items: Vec<WorkItem>, visible_ms: u64) -> Result<(), StoreError> {
        if items.is_empty() {
            return Ok(());
        }
        let body = Body::Messages { items, visible_ms };
        self.write(|transaction| transaction.append(&body, false)).map(|_| ())
    }

    /// Returns when all earlier requests are in the store.
    pub fn catch_up(&self) -> Result<(), StoreError> {
        // Requests are carried out in order, and this one does nothing else.
        self.delete(&[], false).map(|_| ())
    }

    pub fn delete(&self, ids: &[String], force: bool) -> Result<DeleteInstanceResult, StoreError> {
        self.deletion(&Body::Delete { ids: ids.to_vec(), force })
    }

    pub fn delete_bulk(&self, filter: InstanceFilter) -> Result<DeleteInstanceResult, StoreError> {
        self.deletion(&Body::DeleteBulk(filter))
    }

    fn deletion(&self, body: &Body) -> Result<DeleteInstanceResult, StoreError> {
        match self.request(body)? {
            InboxReply::Deleted(result) => Ok(result),
            _ => Err(lost("deleted")),
        }
    }

    pub fn prune(&self, id: &str, options: PruneOptions) -> Result<PruneResult, StoreError> {
        self.pruning(&Body::Prune { id: id.to_owned(), options })
    }

    pub fn prune_bulk(&self, filter: InstanceFilter, options: PruneOptions) -> Result<PruneResult, StoreError> {
        self.pruning(&Body::PruneBulk { filter, options })
    }

    fn pruning(&self, body: &Body) -> Result<PruneResult, StoreError> {
        match self.request(body)? {
            InboxReply::Pruned(result) => Ok(result),
            _ => Err(lost("pruned")),
        }
    }

    /// Terminates an instance. Returns the instances that this call has ended.
    pub fn terminate(&self, request: &Termination) -> Result<Vec<String>, StoreError> {
        match self.request(&Body::Terminate(request.clone()))? {
            InboxReply::Terminated(ids) => Ok(ids),
            _ => Err(lost("terminated")),
        }
    }

    /// What is under way for an instance. The owner knows it; without an owner, only what waits in the file is.
    pub fn live_state(&self, id: &str) -> Result<LiveState, StoreError> {
        if self.has_owner()? {
            let position = self.write(|transaction| transaction.append(&Body::Describe { id: id.to_owned() }, true))?;
            match self.wait(position, DESCRIPTION_TIMEOUT) {
                Ok(WaitOutcome::Answered(Ok(InboxReply::Described(live)))) => return Ok(*live),
                // An owner of an earlier version does not know the request.
                Ok(WaitOutcome::Answered(_)) => {}
                Ok(WaitOutcome::OwnerEnded) | Err(_) => self.write(|transaction| transaction.remove(position))?,
            }
        }
        let mut live = self.readers.read("get_instance_info", |connection| read::live_state(connection, id))?;
        self.add_requested_messages(id, &mut live)?;
        Ok(live)
    }

    /// Asks the owner to carry out `body`. Without an owner, this process carries it out as the owner for a moment.
    fn request(&self, body: &Body) -> Result<InboxReply, StoreError> {
        loop {
            if !self.has_owner()? {
                if let Some(reply) = (self.temporary_owner)(body)? {
                    return Ok(reply);
                }
                continue;
            }
            let position = self.write(|transaction| transaction.append(body, true))?;
            match self.wait(position, ANSWER_TIMEOUT)? {
                WaitOutcome::Answered(answer) => return answer,
                // The client withdraws the request, unless the owner has answered it at the last moment.
                WaitOutcome::OwnerEnded => {
                    let answer = self.write(|transaction| match transaction.request_state(position)? {
                        RequestState::Answered(answer) => Ok(Some(answer)),
                        RequestState::Waiting | RequestState::Unknown => transaction.remove(position).map(|()| None),
                    })?;
                    if let Some(answer) = answer {
                        return answer;
                    }
                }
            }
        }
    }

    /// Waits for the answer to a request, as long as there is an owner.
    fn wait(&self, position: i64, longest: Duration) -> Result<WaitOutcome, StoreError> {
        let began = Instant::now();
        loop {
            let seen = self.answers.events().current();
            let has_owner = self.has_owner()?;
            // The inbox is read after the lock, so that the last answer of an owner that has ended is seen.
            match self.inbox.lock().request_state(position)? {
                RequestState::Answered(answer) => return Ok(WaitOutcome::Answered(answer)),
                RequestState::Unknown => return Ok(WaitOutcome::Answered(Ok(InboxReply::Lost))),
                RequestState::Waiting if !has_owner => return Ok(WaitOutcome::OwnerEnded),
                RequestState::Waiting => {}
            }
            if began.elapsed() > longest {
                return Err(StoreError::Unavailable(format!(
                    "the process that works on '{}' has not answered for {} s; the request is kept, and that process \
                     will carry it out when it can",
                    self.path.display(),
                    longest.as_secs()
                )));
            }
            self.answers.wait(seen);
        }
    }

    fn has_owner(&self) -> Result<bool, StoreError> {
        Ok(self.lock.holder()? != LockHolder::None)
    }

    fn write<T>(&self, write: impl FnMut(&InboxTransaction<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.inbox.lock().write(write)
    }
}

fn lost(what: &str) -> StoreError {
    StoreError::Unavailable(format!(
        "the process that works on the store ended before it reported what was {what}; check, and try again if needed"
    ))
}

/// Makes sure that the file is a store of this version. Only the holder of the lock creates or upgrades the file.
fn prepare(path: &Path, lock: &LockHandle) -> Result<(), StoreError> {
    let began = Instant::now();
    loop {
        match schema::is_current(path) {
            Ok(true) => return Ok(()),
            // Another process is preparing the file, or none has begun.
            Ok(false) => {}
            Err(StoreError::Unavailable(_)) if lock.holder()? != LockHolder::None => {}
            Err(error) => return Err(error),
        }
        if let Some(_owner_lock) = lock.try_acquire()? {
            let mut connection = Connection::open(path).map_err(|error| paths::file_error(path, &error))?;
            schema::prepare(&mut connection, path)?;
        } else if began.elapsed() > PREPARATION_TIMEOUT {
            return Err(StoreError::Unavailable(format!(
                "another process is creating or upgrading '{}', and has not finished; look at that process",
                path.display()
            )));
        } else {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
