//! The right to work on a store: a lock of the operating system on a separate file. The lock ends with the process that
//! holds it, even after a crash.
//!
//! It is a POSIX record lock. A forked child does not inherit such a lock, but it would inherit a lock that belongs to
//! an open file. The disadvantage: the lock ends when its process closes *any* descriptor of the file. So this process
//! has only one descriptor for each path, and never closes it while it holds the lock.

#[cfg(test)]
pub mod tests;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

use crate::error::StoreError;
use crate::sqlite::file::network_fs;
use crate::sqlite::file::paths::{beside, create_with_permissions_of};

/// The lock files that this process has open, by path.
static LOCK_FILES: LazyLock<Mutex<HashMap<PathBuf, Weak<LockFile>>>> = LazyLock::new(Mutex::default);

struct LockFile {
    file: File,
    /// The process that holds the lock through this descriptor. A forked child inherits this value, but not the lock.
    holder: Mutex<Option<u32>>,
}

/// Acquires the lock of a store, and finds out which process holds it.
#[derive(Clone)]
pub struct LockHandle {
    path: PathBuf,
    lock: Arc<LockFile>,
}

/// The lock of a store while this process holds it. Dropping this releases the lock.
pub struct OwnerLock {
    lock: Arc<LockFile>,
}

/// The process that holds the lock of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockHolder {
    None,
    ThisProcess,
    /// Another process, with its number if the system reports it.
    Another(Option<u32>),
}

impl LockHandle {
    /// Opens the lock file of the store at `path`, which must be absolute and canonical. Fails where no store can be.
    pub fn new(path: &Path) -> Result<Self, StoreError> {
        network_fs::refuse(path)?;
        let name = beside(path, "-lock");
        let mut files = LOCK_FILES.lock();
        files.retain(|_, file| file.strong_count() > 0);
        if let Some(lock) = files.get(&name).and_then(Weak::upgrade) {
            return Ok(Self { path: path.to_owned(), lock });
        }
        create_with_permissions_of(path, &name);
        let file = system::open(&name).map_err(|error| lock_file_error(path, &name, &error))?;
        let lock = Arc::new(LockFile { file, holder: Mutex::new(None) });
        files.insert(name, Arc::downgrade(&lock));
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Acquires the lock; `None` if this process or another one holds it already.
    pub fn try_acquire(&self) -> Result<Option<OwnerLock>, StoreError> {
        let mut holder = self.lock.holder.lock();
        if *holder == Some(std::process::id()) || !self.supported(system::lock(&self.lock.file))? {
            return Ok(None);
        }
        *holder = Some(std::process::id());
        drop(holder);
        self.write_process_number();
        Ok(Some(OwnerLock { lock: Arc::clone(&self.lock) }))
    }

    /// The process that holds the lock at this moment. This never delays another process that wants the lock.
    pub fn holder(&self) -> Result<LockHolder, StoreError> {
        let holder = self.lock.holder.lock();
        if *holder == Some(std::process::id()) {
            return Ok(LockHolder::ThisProcess);
        }
        self.supported(system::holder(&self.lock.file))
    }

    /// Writes the number of this process into the lock file, for a person who searches for the owner. No code reads it.
    fn write_process_number(&self) {
        let mut file = &self.lock.file;
        let _ = file.set_len(0);
        let _ = writeln!(file, "{}", std::process::id());
    }

    /// Turns a failure of the lock call into the error for a file system without locks.
    fn supported<T>(&self, outcome: std::io::Result<T>) -> Result<T, StoreError> {
        outcome.map_err(|error| {
            StoreError::Configuration(format!(
                "'{}' is on a file system without locks ({error}); put it on a local disk",
                self.path.display()
            ))
        })
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        let mut holder = self.lock.holder.lock();
        // A forked child drops its copy too, but does not hold the lock and must not release it.
        if *holder == Some(std::process::id()) {
            *holder = None;
            system::unlock(&self.lock.file);
        }
    }
}

fn lock_file_error(path: &Path, name: &Path, error: &std::io::Error) -> StoreError {
    let shown = path.display();
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreError::Configuration(format!(
            "'{shown}' cannot be written; make the file and its directory writable for this process"
        )),
        ErrorKind::NotFound => StoreError::Configuration(format!(
            "the directory of '{shown}' does not exist or takes no files; create it first, or choose another"
        )),
        _ => StoreError::Unavailable(format!("'{}' could not be opened: {error}", name.display())),
    }
}

#[cfg(unix)]
mod system {
    use super::File;
    use super::LockHolder;
    use super::OpenOptions;
    use super::Path;
    use rustix::fs::{FlockOperation, fcntl_lock};
    use rustix::io::Errno;
    use rustix::process::{Flock, FlockType, fcntl_getlk};

    pub fn open(name: &Path) -> std::io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(name)
    }

    /// Tries to take the lock. Returns whether this process holds it now.
    pub fn lock(file: &File) -> std::io::Result<bool> {
        match fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub fn unlock(file: &File) {
        // This process holds the lock, so releasing it cannot fail.
        let _ = fcntl_lock(file, FlockOperation::NonBlockingUnlock);
    }

    pub fn holder(file: &File) -> std::io::Result<LockHolder> {
        Ok(match fcntl_getlk(file, &Flock::from(FlockType::WriteLock))? {
            None => LockHolder::None,
            Some(lock) => LockHolder::Another(lock.pid.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok())),
        })
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs::TryLockError;

    use super::File;
    use super::LockHolder;
    use super::OpenOptions;
    use super::Path;

    pub fn open(name: &Path) -> std::io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(name)
    }

    /// Tries to take the lock. Returns whether this process holds it now.
    pub fn lock(file: &File) -> std::io::Result<bool> {
        match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub fn unlock(file: &File) {
        // This process holds the lock, so releasing it cannot fail.
        let _ = file.unlock();
    }

    pub fn holder(file: &File) -> std::io::Result<LockHolder> {
        match file.try_lock_shared() {
            Ok(()) => file.unlock().map(|()| LockHolder::None),
            Err(TryLockError::WouldBlock) => Ok(LockHolder::Another(None)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
