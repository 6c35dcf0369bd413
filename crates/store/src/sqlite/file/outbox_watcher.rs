//! Hearing of commits to a database of an application, whose outbox is relayed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::sqlite::file::paths::log_of;
use crate::sqlite::file::watcher::{EventCount, FileWatcher, PollIntervals};

/// An idle relay looks four times a second, which is next to nothing.
const PACE: PollIntervals =
    PollIntervals { beside_notices: Duration::from_millis(250), without_notices: Duration::from_millis(25) };

/// Tells when a SQLite file may have changed, whichever journal it has. It never opens the file.
pub struct FileNews {
    bell: Arc<EventCount>,
    file: FileWatcher,
    log: FileWatcher,
}

impl FileNews {
    #[must_use]
    pub fn of(file: &Path) -> Self {
        let bell = Arc::<EventCount>::default();
        Self {
            file: FileWatcher::of(file, PACE, Arc::clone(&bell)),
            log: FileWatcher::of(&log_of(file), PACE, Arc::clone(&bell)),
            bell,
        }
    }

    /// How far it was heard; asked before the file is looked at.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.bell.heard()
    }

    /// Waits until something was written since `heard`, or it is time for a look; whether there was a notice.
    #[must_use]
    pub fn wait(&self, heard: u64) -> bool {
        let is_file_watched = self.file.arm();
        let is_log_watched = self.log.arm();
        self.bell.wait(heard, PACE.limit(is_file_watched || is_log_watched))
    }

    /// Ends a wait.
    pub fn ring(&self) {
        self.bell.ring();
    }
}
