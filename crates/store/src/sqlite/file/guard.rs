//! Whether a file is still the one that was opened, under the name by which it was opened.
//!
//! A file that was deleted or replaced can be written to as before, and all of it is lost with the last one who has it open.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::ffi;

use crate::error::StoreError;
use crate::sqlite::file::paths::{Identity, log_of};

/// A file and its log, as they were when they were opened.
pub struct FileGuard {
    file: PathBuf,
    log: PathBuf,
    identity: Identity,
    log_identity: Identity,
    /// The file never gets shorter: it is not vacuumed while it is open.
    length: AtomicU64,
}

impl FileGuard {
    /// Must be taken after the log was made, which the first read of a connection does.
    pub fn of(file: &Path) -> Result<Self, StoreError> {
        let look = |path: &Path| {
            fs::metadata(path)
                .map_err(|error| StoreError::Unavailable(format!("'{}' cannot be looked at: {error}", path.display())))
        };
        let log = log_of(file);
        let (metadata, log_metadata) = (look(file)?, look(&log)?);
        Ok(Self {
            file: file.to_owned(),
            identity: Identity::of(&metadata),
            log_identity: Identity::of(&log_metadata),
            length: AtomicU64::new(metadata.len()),
            log,
        })
    }

    /// Fails when what was just written may be nowhere that anybody finds.
    pub fn check(&self) -> rusqlite::Result<()> {
        let metadata = Self::found(&self.file, self.identity)?;
        Self::found(&self.log, self.log_identity)?;
        if metadata.len() < self.length.load(Ordering::Relaxed) {
            return Err(moved(&format!("'{}' was cut off by something else than SQLite", self.file.display())));
        }
        self.length.store(metadata.len(), Ordering::Relaxed);
        Ok(())
    }

    fn found(path: &Path, identity: Identity) -> rusqlite::Result<Metadata> {
        let metadata = fs::metadata(path)
            .map_err(|error| moved(&format!("'{}' was deleted or moved away ({error})", path.display())))?;
        if Identity::of(&metadata) != identity {
            return Err(moved(&format!("'{}' was replaced by another file", path.display())));
        }
        Ok(metadata)
    }
}

fn moved(message: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED), Some(message.to_owned()))
}
