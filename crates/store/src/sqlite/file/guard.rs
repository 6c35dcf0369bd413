//! Checks whether the path of a store still leads to the file that was opened, and whether the lock of its owner is still
//! the one lock of the store.
//!
//! A process can write to a file that was deleted or replaced. Everything in such a file is lost when the last process
//! closes it.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::ffi;

use crate::error::StoreError;
use crate::sqlite::file::lock::LockPlace;
use crate::sqlite::file::paths::{Identity, identity, log_of};

/// The identities of a file and of its log at the time when they were opened.
pub struct FileGuard {
    file: PathBuf,
    log: PathBuf,
    identity: Identity,
    log_identity: Identity,
    /// The lock file of the owner; `None` without a lock.
    lock: Option<LockPlace>,
    /// The length at the last check. The file never gets shorter, since no vacuum runs while it is open.
    length: AtomicU64,
}

impl FileGuard {
    /// Notes the identities. The log must exist: the first read of a connection creates it.
    pub fn of(file: &Path, lock: Option<LockPlace>) -> Result<Self, StoreError> {
        let metadata_of = |path: &Path| {
            fs::metadata(path)
                .map_err(|error| StoreError::Unavailable(format!("'{}' cannot be examined: {error}", path.display())))
        };
        let log = log_of(file);
        let (metadata, log_metadata) = (metadata_of(file)?, metadata_of(&log)?);
        Ok(Self {
            file: file.to_owned(),
            identity: Identity::of(&metadata),
            log_identity: Identity::of(&log_metadata),
            lock,
            length: AtomicU64::new(metadata.len()),
            log,
        })
    }

    /// Fails when a write would go, or may have gone, to a file that no process can find by its path, and when another
    /// process may have become the owner.
    pub fn check(&self) -> rusqlite::Result<()> {
        let metadata = Self::check_identity(&self.file, self.identity)?;
        Self::check_identity(&self.log, self.log_identity)?;
        if let Some(LockPlace { name, identity: held }) = &self.lock
            && identity(name) != Some(*held)
        {
            return Err(moved_error(&format!(
                "'{}' was deleted or replaced, so another process may work on the store by now",
                name.display()
            )));
        }
        if metadata.len() < self.length.load(Ordering::Relaxed) {
            return Err(moved_error(&format!(
                "'{}' was shortened by another program than SQLite",
                self.file.display()
            )));
        }
        self.length.store(metadata.len(), Ordering::Relaxed);
        Ok(())
    }

    fn check_identity(path: &Path, identity: Identity) -> rusqlite::Result<Metadata> {
        let metadata = fs::metadata(path)
            .map_err(|error| moved_error(&format!("'{}' was deleted or moved away ({error})", path.display())))?;
        if Identity::of(&metadata) != identity {
            return Err(moved_error(&format!("'{}' was replaced by another file", path.display())));
        }
        Ok(metadata)
    }
}

fn moved_error(message: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED), Some(message.to_owned()))
}
