//! Hearing of the owner's commits, so that waits in a client process end without polling.
//!
//! A notice says that the log was written to, which is before the commit: only SQLite's count of what is visible says that it
//! is over. One thread does this for all who wait, and only while somebody does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::watch;

use crate::sqlite::file::paths::{Identity, identity, log_of};
use crate::sqlite::file::watcher::{EventCount, FileWatcher, PollIntervals};
use crate::sqlite::read;

const PACE: PollIntervals =
    PollIntervals { beside_notices: Duration::from_millis(100), without_notices: Duration::from_millis(5) };
/// Writing and syncing a commit takes this long at most, or the slow look finds it.
const COMMIT: Duration = Duration::from_millis(50);
/// Between two looks for a commit that was announced.
const LOOK: Duration = Duration::from_micros(500);
/// What else is committed in this time is told together.
const REST: Duration = Duration::from_millis(2);

/// Tells of the commits of other processes to one file.
pub struct CommitWatcher {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    sender: watch::Sender<()>,
    bell: Arc<EventCount>,
    is_watched: Mutex<bool>,
}

/// Resolves after the next commit. What is committed between its creation and the wait counts: create it, look, then wait.
pub struct CommitWatch {
    receiver: Option<watch::Receiver<()>>,
    shared: Arc<Shared>,
}

impl CommitWatcher {
    pub fn of(path: &Path) -> Self {
        let shared = Shared {
            path: path.to_owned(),
            sender: watch::Sender::new(()),
            bell: Arc::default(),
            is_watched: Mutex::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    pub fn watch(&self) -> CommitWatch {
        let shared = Arc::clone(&self.shared);
        let receiver = shared.sender.subscribe();
        let mut is_watched = shared.is_watched.lock();
        if !*is_watched {
            let theirs = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name("duroxide-changes".to_owned());
            match thread.spawn(move || follow(&theirs)) {
                Ok(_) => *is_watched = true,
                Err(error) => {
                    tracing::error!(target: "duroxide::store", "no thread can be started to wait for the store: {error}");
                }
            }
        }
        drop(is_watched);
        CommitWatch { receiver: Some(receiver), shared }
    }

    #[cfg(test)]
    pub fn is_watched(&self) -> bool {
        *self.shared.is_watched.lock()
    }
}

impl CommitWatch {
    pub async fn changed(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            // The sender lives as long as `shared`.
            let _ = receiver.changed().await;
        }
    }
}

impl Drop for CommitWatch {
    fn drop(&mut self) {
        self.receiver = None;
        if self.shared.sender.receiver_count() == 0 {
            self.shared.bell.ring();
        }
    }
}

/// Until nobody waits any more.
fn follow(shared: &Shared) {
    let tidings = FileWatcher::of(&log_of(&shared.path), PACE, Arc::clone(&shared.bell));
    let mut seen = Seen::nothing();
    loop {
        let heard = shared.bell.heard();
        if seen.has_changed(&shared.path) {
            shared.sender.send_replace(());
            std::thread::sleep(REST);
        }
        {
            let mut is_watched = shared.is_watched.lock();
            if shared.sender.receiver_count() == 0 {
                *is_watched = false;
                return;
            }
        }
        if tidings.wait(heard) {
            let began = Instant::now();
            while !seen.would_change(&shared.path) && began.elapsed() < COMMIT {
                std::thread::sleep(LOOK);
            }
        }
    }
}

/// How far a connection has seen the file.
struct Seen {
    connection: Option<Connection>,
    identity: Option<Identity>,
    version: Option<i64>,
    is_news: bool,
}

impl Seen {
    fn nothing() -> Self {
        Self { connection: None, identity: None, version: None, is_news: false }
    }

    /// Whether something was committed since the last time. The first time counts: who waits must look once more.
    fn has_changed(&mut self, path: &Path) -> bool {
        let changed = self.would_change(path);
        self.is_news = false;
        changed
    }

    fn would_change(&mut self, path: &Path) -> bool {
        let identity = identity(path);
        if self.connection.is_none() || identity != self.identity {
            self.connection = read::open(path).ok();
            self.identity = identity;
            self.version = None;
        }
        let version = self.connection.as_ref().and_then(|connection| {
            connection.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0)).ok()
        });
        self.is_news |= version.is_some() && version != self.version;
        self.version = version;
        self.is_news
    }
}
