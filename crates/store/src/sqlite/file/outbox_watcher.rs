//! Watches the database of an application, so that the relay reads its outbox soon after a commit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::sqlite::file::paths::log_of;
use crate::sqlite::file::watcher::{EventCount, FileWatcher, PollIntervals};

/// An idle relay looks four times a second, which costs almost nothing.
const INTERVALS: PollIntervals =
    PollIntervals { with_notices: Duration::from_millis(250), without_notices: Duration::from_millis(25) };

/// Reports that a SQLite file may have changed, with either kind of journal. It never opens the file.
pub struct DatabaseWatcher {
    events: Arc<EventCount>,
    file: FileWatcher,
    log: FileWatcher,
}

impl DatabaseWatcher {
    #[must_use]
    pub fn of(file: &Path) -> Self {
        let events = Arc::<EventCount>::default();
        Self {
            file: FileWatcher::of(file, INTERVALS, Arc::clone(&events)),
            log: FileWatcher::of(&log_of(file), INTERVALS, Arc::clone(&events)),
            events,
        }
    }

    /// The number of changes so far. The caller reads it before it looks at the database.
    #[must_use]
    pub fn notices(&self) -> u64 {
        self.events.current()
    }

    /// Waits for a write after the count `notices`, or until the next look is due. Returns whether a write was reported.
    #[must_use]
    pub fn wait(&self, notices: u64) -> bool {
        let is_file_watched = self.file.arm();
        let is_log_watched = self.log.arm();
        self.events.wait(notices, INTERVALS.limit(is_file_watched || is_log_watched))
    }

    /// Ends [`Self::wait`].
    pub fn wake(&self) {
        self.events.increment();
    }
}
