//! Watches the owner's commits, so that waits in a client process end soon after a commit.
//!
//! A notice reports a write to the log, which happens before the commit. Only SQLite's data version shows that a commit
//! is visible. One thread watches for all waits of the process, and only while there are any.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::watch;

use crate::sqlite::file::paths::{Identity, identity, log_of};
use crate::sqlite::file::watcher::{EventCount, FileWatcher, PollIntervals};
use crate::sqlite::read;

const INTERVALS: PollIntervals =
    PollIntervals { with_notices: Duration::from_millis(100), without_notices: Duration::from_millis(5) };
/// How long to look for a commit after a notice. The slow polling finds a commit that takes longer.
const COMMIT_TIME: Duration = Duration::from_millis(50);
/// The pause between two looks for a commit after a notice.
const LOOK_INTERVAL: Duration = Duration::from_micros(500);
/// The pause after a report. Commits in this time get one report together.
const REPORT_INTERVAL: Duration = Duration::from_millis(2);

/// Reports the commits of other processes to one file.
pub struct CommitWatcher {
    shared: Arc<WatcherState>,
}

struct WatcherState {
    path: PathBuf,
    sender: watch::Sender<()>,
    events: Arc<EventCount>,
    is_watched: Mutex<bool>,
}

/// Waits for the next commit. A commit between the creation of this and the wait counts, so the caller creates it,
/// looks, and then waits.
pub struct CommitWatch {
    receiver: Option<watch::Receiver<()>>,
    shared: Arc<WatcherState>,
}

impl CommitWatcher {
    pub fn of(path: &Path) -> Self {
        let shared = WatcherState {
            path: path.to_owned(),
            sender: watch::Sender::new(()),
            events: Arc::default(),
            is_watched: Mutex::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    pub fn watch(&self) -> CommitWatch {
        let shared = Arc::clone(&self.shared);
        let receiver = shared.sender.subscribe();
        let mut is_watched = shared.is_watched.lock();
        if !*is_watched {
            let thread_shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name("duroxide-changes".to_owned());
            match thread.spawn(move || watch_file(&thread_shared)) {
                Ok(_) => *is_watched = true,
                Err(error) => {
                    tracing::error!(
                        target: "duroxide::store",
                        "the thread that waits for commits could not be started: {error}"
                    );
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
            self.shared.events.increment();
        }
    }
}

/// Reports commits until no wait is left.
fn watch_file(shared: &WatcherState) {
    let watcher = FileWatcher::of(&log_of(&shared.path), INTERVALS, Arc::clone(&shared.events));
    let mut view = FileView::new();
    loop {
        let seen = shared.events.current();
        if view.take_change(&shared.path) {
            shared.sender.send_replace(());
            std::thread::sleep(REPORT_INTERVAL);
        }
        {
            let mut is_watched = shared.is_watched.lock();
            if shared.sender.receiver_count() == 0 {
                *is_watched = false;
                return;
            }
        }
        if watcher.wait(seen) {
            let began = Instant::now();
            while !view.has_change(&shared.path) && began.elapsed() < COMMIT_TIME {
                std::thread::sleep(LOOK_INTERVAL);
            }
        }
    }
}

/// A connection to the file, with the data version that it saw last.
struct FileView {
    connection: Option<Connection>,
    identity: Option<Identity>,
    version: Option<i64>,
    /// There was a commit that was not reported yet.
    has_unreported: bool,
}

impl FileView {
    fn new() -> Self {
        Self { connection: None, identity: None, version: None, has_unreported: false }
    }

    /// Whether there was a commit since the last call. The first call returns true, so that each waiter looks once
    /// more.
    fn take_change(&mut self, path: &Path) -> bool {
        let changed = self.has_change(path);
        self.has_unreported = false;
        changed
    }

    fn has_change(&mut self, path: &Path) -> bool {
        let identity = identity(path);
        if self.connection.is_none() || identity != self.identity {
            self.connection = read::open(path).ok();
            self.identity = identity;
            self.version = None;
        }
        let version = self.connection.as_ref().and_then(|connection| {
            connection.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0)).ok()
        });
        self.has_unreported |= version.is_some() && version != self.version;
        self.version = version;
        self.has_unreported
    }
}
