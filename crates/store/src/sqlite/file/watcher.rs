//! Hearing of it when another process writes to a file, without looking at it all the time.
//!
//! The system's own notices come within a millisecond but may be missing (too many watches, a file that was replaced), so
//! there is a slow look beside them, and a fast one where they cannot be had at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::{Condvar, Mutex};

use crate::sqlite::file::paths::{Identity, identity};

/// How often to look when no notice comes, and when none can come.
#[derive(Debug, Clone, Copy)]
pub struct PollIntervals {
    pub beside_notices: Duration,
    pub without_notices: Duration,
}

impl PollIntervals {
    pub fn limit(self, has_notices: bool) -> Duration {
        if has_notices { self.beside_notices } else { self.without_notices }
    }
}

/// Counts what was heard. Who waits remembers how far it had heard, and so misses nothing.
#[derive(Default)]
pub struct EventCount {
    rings: Mutex<u64>,
    rung: Condvar,
}

impl EventCount {
    pub fn ring(&self) {
        *self.rings.lock() += 1;
        self.rung.notify_all();
    }

    pub fn heard(&self) -> u64 {
        *self.rings.lock()
    }

    /// Waits for a ring after `heard`; whether there was one in time.
    pub fn wait(&self, heard: u64, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut rings = self.rings.lock();
        while *rings == heard {
            if self.rung.wait_until(&mut rings, deadline).timed_out() {
                return *rings != heard;
            }
        }
        true
    }
}

/// Rings a bell when a file was written to.
pub struct FileWatcher {
    file: PathBuf,
    pace: PollIntervals,
    bell: Arc<EventCount>,
    watch: Mutex<Option<Watch>>,
}

struct Watch {
    identity: Option<Identity>,
    /// `None` where the system gives no notices.
    watcher: Option<RecommendedWatcher>,
    since: Instant,
}

/// Where notices could not be had it is tried again only now and then: each attempt costs a thread.
const ANOTHER_ATTEMPT: Duration = Duration::from_secs(10);

impl FileWatcher {
    pub fn of(file: &Path, pace: PollIntervals, bell: Arc<EventCount>) -> Self {
        Self { file: file.to_owned(), pace, bell, watch: Mutex::new(None) }
    }

    pub fn bell(&self) -> &Arc<EventCount> {
        &self.bell
    }

    /// Waits until the file may have changed since `heard` was asked of the bell, or it is time for a look; whether a notice
    /// came.
    pub fn wait(&self, heard: u64) -> bool {
        let limit = self.pace.limit(self.arm());
        self.bell.wait(heard, limit)
    }

    /// Whether notices will come. The file may be another one than the last time.
    pub fn arm(&self) -> bool {
        let identity = identity(&self.file);
        let mut watch = self.watch.lock();
        if let Some(watch) = &*watch
            && watch.identity == identity
            && (watch.watcher.is_some() || identity.is_none() || watch.since.elapsed() < ANOTHER_ATTEMPT)
        {
            return watch.watcher.is_some();
        }
        let watcher = if identity.is_some() { self.watcher() } else { None };
        let armed = watcher.is_some();
        *watch = Some(Watch { identity, watcher, since: Instant::now() });
        // What happened before there were notices is seen by one more look.
        self.bell.ring();
        armed
    }

    fn watcher(&self) -> Option<RecommendedWatcher> {
        let bell = Arc::clone(&self.bell);
        let heard = move |event: notify::Result<notify::Event>| {
            // Opening and reading are no news.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                bell.ring();
            }
        };
        let mut watcher = notify::recommended_watcher(heard).ok()?;
        watcher.watch(&self.file, RecursiveMode::NonRecursive).ok()?;
        Some(watcher)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::sqlite::testing::Folder;

    /// So slow that what it finds was not found by a notice.
    const NEVER: Duration = Duration::from_secs(60);

    fn tidings(file: &Path) -> FileWatcher {
        let tidings =
            FileWatcher::of(file, PollIntervals { beside_notices: NEVER, without_notices: NEVER }, Arc::default());
        // The first wait arms it, and asks for a look.
        assert!(tidings.wait(tidings.bell().heard()));
        tidings
    }

    #[test]
    fn a_write_is_heard_of_at_once() {
        let folder = Folder::new();
        let file = folder.join("news");
        std::fs::write(&file, "old").unwrap();
        let tidings = tidings(&file);
        let heard = tidings.bell().heard();
        let mut writer = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
        writer.write_all(b"new").unwrap();
        let began = Instant::now();
        assert!(tidings.wait(heard));
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_file_in_the_place_of_another_is_heard_of_too() {
        let folder = Folder::new();
        let file = folder.join("news");
        std::fs::write(&file, "old").unwrap();
        let tidings = tidings(&file);
        std::fs::write(folder.join("other"), "new").unwrap();
        std::fs::rename(folder.join("other"), &file).unwrap();
        // Armed anew for the new file, whether or not the end of the old one was heard.
        while tidings.watch.lock().as_ref().unwrap().identity != identity(&file) {
            tidings.wait(tidings.bell().heard());
        }
        let heard = tidings.bell().heard();
        std::fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"more").unwrap();
        assert!(tidings.wait(heard));
    }

    #[test]
    fn reading_a_file_is_no_news() {
        let folder = Folder::new();
        let file = folder.join("news");
        std::fs::write(&file, "old").unwrap();
        let tidings = tidings(&file);
        let heard = tidings.bell().heard();
        assert_eq!(std::fs::read(&file).unwrap(), b"old");
        // A notice of the write below comes after one of the reading.
        std::fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"x").unwrap();
        assert!(tidings.wait(heard));
        assert_eq!(tidings.bell().heard(), heard + 1);
    }

    #[test]
    fn without_a_file_it_is_looked_for_fast() {
        let folder = Folder::new();
        let pace = PollIntervals { beside_notices: NEVER, without_notices: Duration::from_millis(1) };
        let tidings = FileWatcher::of(&folder.join("none"), pace, Arc::default());
        tidings.wait(tidings.bell().heard());
        assert!(!tidings.wait(tidings.bell().heard()));
    }
}
