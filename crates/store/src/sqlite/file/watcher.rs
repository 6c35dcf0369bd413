//! Notices when another process writes to a file, without constant polling.
//!
//! Notices of the operating system arrive within a millisecond, but may be missing: there may be too many watches, or
//! the file was replaced. So the watcher also polls slowly. Without notices it polls fast.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::{Condvar, Mutex};

use crate::sqlite::file::paths::{Identity, identity};

/// How often to look at a file: beside notices, and on systems or files without notices.
#[derive(Debug, Clone, Copy)]
pub struct PollIntervals {
    pub with_notices: Duration,
    pub without_notices: Duration,
}

impl PollIntervals {
    pub fn limit(self, has_notices: bool) -> Duration {
        if has_notices { self.with_notices } else { self.without_notices }
    }
}

/// Counts events. A waiter reads the count first, looks, and then waits for a higher count, so it misses no event.
#[derive(Default)]
pub struct EventCount {
    count: Mutex<u64>,
    incremented: Condvar,
}

impl EventCount {
    pub fn increment(&self) {
        *self.count.lock() += 1;
        self.incremented.notify_all();
    }

    pub fn current(&self) -> u64 {
        *self.count.lock()
    }

    /// Waits until the count differs from `seen`, or until the time is over. Returns whether the count differs.
    pub fn wait(&self, seen: u64, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut count = self.count.lock();
        while *count == seen {
            if self.incremented.wait_until(&mut count, deadline).timed_out() {
                return *count != seen;
            }
        }
        true
    }
}

/// Increments an [`EventCount`] at each write to a file.
pub struct FileWatcher {
    file: PathBuf,
    intervals: PollIntervals,
    events: Arc<EventCount>,
    watch: Mutex<Option<ActiveWatch>>,
}

struct ActiveWatch {
    identity: Option<Identity>,
    /// `None` where the system sends no notices.
    watcher: Option<RecommendedWatcher>,
    since: Instant,
}

/// How long to wait after a failed attempt to get notices. Each attempt costs a thread.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

impl FileWatcher {
    pub fn of(file: &Path, intervals: PollIntervals, events: Arc<EventCount>) -> Self {
        Self { file: file.to_owned(), intervals, events, watch: Mutex::new(None) }
    }

    pub fn events(&self) -> &Arc<EventCount> {
        &self.events
    }

    /// Waits for an event after the count `seen`, or until the next look is due. Returns whether there was an event.
    pub fn wait(&self, seen: u64) -> bool {
        let limit = self.intervals.limit(self.arm());
        self.events.wait(seen, limit)
    }

    /// Makes sure that the system watches the file that is there now. Returns whether notices will arrive.
    pub fn arm(&self) -> bool {
        let identity = identity(&self.file);
        let mut watch = self.watch.lock();
        if let Some(watch) = &*watch
            && watch.identity == identity
            && (watch.watcher.is_some() || identity.is_none() || watch.since.elapsed() < RETRY_INTERVAL)
        {
            return watch.watcher.is_some();
        }
        let watcher = if identity.is_some() { self.request_notices() } else { None };
        let armed = watcher.is_some();
        *watch = Some(ActiveWatch { identity, watcher, since: Instant::now() });
        // The caller looks once more, and so sees the writes from before the notices.
        self.events.increment();
        armed
    }

    fn request_notices(&self) -> Option<RecommendedWatcher> {
        let events = Arc::clone(&self.events);
        let handle = move |event: notify::Result<notify::Event>| {
            // Opening and reading do not change the file.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                events.increment();
            }
        };
        // The watcher needs a thread, and ends the process where it gets none.
        thread::Builder::new().spawn(|| {}).ok()?.join().ok()?;
        let mut watcher = notify::recommended_watcher(handle).ok()?;
        watcher.watch(&self.file, RecursiveMode::NonRecursive).ok()?;
        Some(watcher)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::sqlite::testing::Folder;

    /// So slow that only a notice can end a wait in time.
    const NEVER: Duration = Duration::from_secs(60);

    fn armed_watcher(file: &Path) -> FileWatcher {
        let watcher =
            FileWatcher::of(file, PollIntervals { with_notices: NEVER, without_notices: NEVER }, Arc::default());
        // The first wait arms the watcher and increments the count.
        assert!(watcher.wait(watcher.events().current()));
        watcher
    }

    #[test]
    fn a_write_is_noticed_at_once() {
        let folder = Folder::new();
        let file = folder.join("watched");
        std::fs::write(&file, "old").unwrap();
        let watcher = armed_watcher(&file);
        let seen = watcher.events().current();
        let mut writer = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
        writer.write_all(b"new").unwrap();
        let began = Instant::now();
        assert!(watcher.wait(seen));
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_write_to_a_file_that_replaced_another_is_noticed() {
        let folder = Folder::new();
        let file = folder.join("watched");
        std::fs::write(&file, "old").unwrap();
        let watcher = armed_watcher(&file);
        std::fs::write(folder.join("other"), "new").unwrap();
        std::fs::rename(folder.join("other"), &file).unwrap();
        // The watcher arms itself again for the new file, with or without a notice of the replacement.
        while watcher.watch.lock().as_ref().unwrap().identity != identity(&file) {
            watcher.wait(watcher.events().current());
        }
        let seen = watcher.events().current();
        std::fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"more").unwrap();
        assert!(watcher.wait(seen));
    }

    #[test]
    fn reading_a_file_is_not_noticed() {
        let folder = Folder::new();
        let file = folder.join("watched");
        std::fs::write(&file, "old").unwrap();
        let watcher = armed_watcher(&file);
        let seen = watcher.events().current();
        assert_eq!(std::fs::read(&file).unwrap(), b"old");
        // A notice of the reading would arrive before the notice of the write below.
        std::fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"x").unwrap();
        assert!(watcher.wait(seen));
        assert_eq!(watcher.events().current(), seen + 1);
    }

    #[test]
    fn without_a_file_the_watcher_polls_fast() {
        let folder = Folder::new();
        let intervals = PollIntervals { with_notices: NEVER, without_notices: Duration::from_millis(1) };
        let watcher = FileWatcher::of(&folder.join("none"), intervals, Arc::default());
        watcher.wait(watcher.events().current());
        assert!(!watcher.wait(watcher.events().current()));
    }
}
