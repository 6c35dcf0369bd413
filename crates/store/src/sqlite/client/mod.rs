//! A store as a process sees it that does not work on it: it reads the file, and writes what it asks for into the inbox.
//!
//! It blocks; [`provider`] calls it from threads that may.

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
use crate::sqlite::file::lock::{LockHandle, LockHolder};
use crate::sqlite::file::watcher::{EventCount, FileWatcher, PollIntervals};
use crate::sqlite::file::{paths, schema};
use crate::sqlite::inbox::{Answer, Body, Inbox, InboxTransaction, Replied, Reply};
use crate::sqlite::read::Readers;

pub use crate::sqlite::client::commit_watcher::{CommitWatch, CommitWatcher};
pub use crate::sqlite::client::provider::ClientProvider;

/// Beside the notices it is looked whether the owner still lives.
const ANSWER_PACE: PollIntervals =
    PollIntervals { beside_notices: Duration::from_millis(20), without_notices: Duration::from_millis(5) };
/// An owner that lives answers when its disk takes what it writes.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// How long another process may take to make or upgrade the file.
const PREPARATION: Duration = Duration::from_secs(60);

/// Becomes the owner for a moment, carries out what the backlog and then `Body` ask for, and gives the ownership back.
/// `None` when somebody else has become the owner meanwhile.
pub type StandIn = Box<dyn Fn(&Body) -> Result<Option<Reply>, StoreError> + Send + Sync>;

/// The store at a path, for a process that does not work on it.
pub struct ClientStore {
    path: PathBuf,
    candidate: LockHandle,
    readers: Arc<Readers>,
    inbox: Mutex<Inbox>,
    answers: FileWatcher,
    changes: CommitWatcher,
    stand_in: StandIn,
}

/// How a request that was left to an owner ended.
enum Outcome {
    Answered(Answer),
    /// The owner ended, and the request is still there.
    Deserted,
}

impl ClientStore {
    /// Opens the store at `path`, which is absolute and canonical; makes it where nobody has made it yet.
    pub fn open(path: &Path, stand_in: StandIn) -> Result<Self, StoreError> {
        let candidate = LockHandle::new(path)?;
        prepare(path, &candidate)?;
        let inbox = Inbox::open(path)?;
        let readers = Arc::new(Readers::new(path));
        Ok(Self {
            path: path.to_owned(),
            candidate,
            answers: FileWatcher::of(inbox.file(), ANSWER_PACE, Arc::new(EventCount::default())),
            changes: CommitWatcher::of(path),
            inbox: Mutex::new(inbox),
            readers,
            stand_in,
        })
    }

    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// For waiting until another process has committed something to the store.
    pub fn changes(&self) -> &CommitWatcher {
        &self.changes
    }

    /// Sends messages, all of them or none. They are on the disk when this returns, and will be delivered.
    pub fn send(&self, items: Vec<WorkItem>, visible_ms: u64) -> Result<(), StoreError> {
        if items.is_empty() {
            return Ok(());
        }
        let body = Body::Messages { items, visible_ms };
        self.write(|draft| draft.append(&body, false)).map(|_| ())
    }

    /// Returns when all that was asked for before is in the store, by the owner or in its stead.
    pub fn catch_up(&self) -> Result<(), StoreError> {
        // Requests are carried out in order, this one with nothing to do among them.
        self.delete(&[], false).map(|_| ())
    }

    pub fn delete(&self, ids: &[String], force: bool) -> Result<DeleteInstanceResult, StoreError> {
        self.deletion(&Body::Delete { ids: ids.to_vec(), force })
    }

    pub fn delete_bulk(&self, filter: InstanceFilter) -> Result<DeleteInstanceResult, StoreError> {
        self.deletion(&Body::DeleteBulk(filter))
    }

    fn deletion(&self, body: &Body) -> Result<DeleteInstanceResult, StoreError> {
        match self.ask(body)? {
            Reply::Deleted(result) => Ok(result),
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
        match self.ask(body)? {
            Reply::Pruned(result) => Ok(result),
            _ => Err(lost("pruned")),
        }
    }

    /// Has `body` carried out by the owner, or in its stead where there is none.
    fn ask(&self, body: &Body) -> Result<Reply, StoreError> {
        loop {
            if !self.has_owner()? {
                if let Some(reply) = (self.stand_in)(body)? {
                    return Ok(reply);
                }
                continue;
            }
            let position = self.write(|draft| draft.append(body, true))?;
            match self.wait(position)? {
                Outcome::Answered(answer) => return answer,
                // Taken back, unless it was answered at the last moment.
                Outcome::Deserted => {
                    let answer = self.write(|draft| match draft.replied(position)? {
                        Replied::Answered(answer) => Ok(Some(answer)),
                        Replied::Waiting | Replied::Forgotten => draft.remove(position).map(|()| None),
                    })?;
                    if let Some(answer) = answer {
                        return answer;
                    }
                }
            }
        }
    }

    /// Waits for the answer to a request, as long as there is somebody to answer it.
    fn wait(&self, position: i64) -> Result<Outcome, StoreError> {
        let began = Instant::now();
        loop {
            let heard = self.answers.bell().heard();
            let has_owner = self.has_owner()?;
            // Looked at after the owner: what it wrote last is seen.
            match self.inbox.lock().replied(position)? {
                Replied::Answered(answer) => return Ok(Outcome::Answered(answer)),
                Replied::Forgotten => return Ok(Outcome::Answered(Ok(Reply::Lost))),
                Replied::Waiting if !has_owner => return Ok(Outcome::Deserted),
                Replied::Waiting => {}
            }
            if began.elapsed() > ANSWER_PATIENCE {
                return Err(StoreError::Unavailable(format!(
                    "the process that works on '{}' has not answered for {} s; what was asked for is kept, and it will do it \
                     when it can",
                    self.path.display(),
                    ANSWER_PATIENCE.as_secs()
                )));
            }
            self.answers.wait(heard);
        }
    }

    fn has_owner(&self) -> Result<bool, StoreError> {
        Ok(self.candidate.holder()? != LockHolder::Nobody)
    }

    fn write<T>(&self, write: impl FnMut(&InboxTransaction<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.inbox.lock().write(write)
    }
}

fn lost(what: &str) -> StoreError {
    StoreError::Unavailable(format!(
        "the process that works on the store ended before it said what was {what}; look, and try again if need be"
    ))
}

/// Makes the file a store of this version, unless it is one. Nobody does that while another process works on it.
fn prepare(path: &Path, candidate: &LockHandle) -> Result<(), StoreError> {
    let began = Instant::now();
    loop {
        match schema::is_current(path) {
            Ok(true) => return Ok(()),
            // Its making is under way, or not even begun.
            Ok(false) => {}
            Err(StoreError::Unavailable(_)) if candidate.holder()? != LockHolder::Nobody => {}
            Err(error) => return Err(error),
        }
        if let Some(_ownership) = candidate.try_acquire()? {
            let mut connection = Connection::open(path).map_err(|error| paths::refused(path, &error))?;
            schema::prepare(&mut connection, path)?;
        } else if began.elapsed() > PREPARATION {
            return Err(StoreError::Unavailable(format!(
                "'{}' is being made or upgraded by another process, which has not come to an end; look at that process",
                path.display()
            )));
        } else {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
