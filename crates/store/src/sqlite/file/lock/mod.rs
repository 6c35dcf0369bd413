//! The right to work on a file: a lock of the operating system that ends with the process that has it, however it ends.
//!
//! It is a POSIX record lock on a file of its own. A child that was forked does not have it, unlike a lock that belongs to an
//! open file. The price: closing *any* descriptor of that file would end it, so this process has one descriptor for a path,
//! and never closes it while the lock is held.

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
use crate::sqlite::file::paths::{beside, make_alike};

/// The descriptors of this process, by path.
static LOCK_FILES: LazyLock<Mutex<HashMap<PathBuf, Weak<LockFile>>>> = LazyLock::new(Mutex::default);

struct LockFile {
    file: File,
    /// The process that holds the lock by this descriptor. A forked child inherits the memory, but not the lock.
    holder: Mutex<Option<u32>>,
}

/// What can become the owner of a file, or ask who is.
#[derive(Clone)]
pub struct LockHandle {
    path: PathBuf,
    lock: Arc<LockFile>,
}

/// The right to work on a file. It ends when this is dropped, or with the process.
pub struct OwnerLock {
    lock: Arc<LockFile>,
}

/// Who works on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockHolder {
    Nobody,
    ThisProcess,
    /// With its number, where the system tells it.
    Another(Option<u32>),
}

impl LockHandle {
    /// Opens what is locked for the store at `path`, which is absolute and canonical. Fails where no store can be.
    pub fn new(path: &Path) -> Result<Self, StoreError> {
        network_fs::refuse(path)?;
        let name = beside(path, "-lock");
        let mut files = LOCK_FILES.lock();
        files.retain(|_, file| file.strong_count() > 0);
        if let Some(lock) = files.get(&name).and_then(Weak::upgrade) {
            return Ok(Self { path: path.to_owned(), lock });
        }
        make_alike(path, &name);
        let file = system::open(&name).map_err(|error| refused(path, &name, &error))?;
        let lock = Arc::new(LockFile { file, holder: Mutex::new(None) });
        files.insert(name, Arc::downgrade(&lock));
        Ok(Self { path: path.to_owned(), lock })
    }

    /// The ownership, unless somebody has it, this process included.
    pub fn try_acquire(&self) -> Result<Option<OwnerLock>, StoreError> {
        let mut holder = self.lock.holder.lock();
        if *holder == Some(std::process::id()) || !self.attempt(system::lock(&self.lock.file))? {
            return Ok(None);
        }
        *holder = Some(std::process::id());
        drop(holder);
        self.introduce();
        Ok(Some(OwnerLock { lock: Arc::clone(&self.lock) }))
    }

    /// Who works on the file at this moment. Asking is in nobody's way.
    pub fn holder(&self) -> Result<LockHolder, StoreError> {
        let holder = self.lock.holder.lock();
        if *holder == Some(std::process::id()) {
            return Ok(LockHolder::ThisProcess);
        }
        self.attempt(system::holder(&self.lock.file))
    }

    /// Writes the number of this process where a person who looks for it finds it. Nothing depends on it.
    fn introduce(&self) {
        let mut file = &self.lock.file;
        let _ = file.set_len(0);
        let _ = writeln!(file, "{}", std::process::id());
    }

    fn attempt<T>(&self, outcome: std::io::Result<T>) -> Result<T, StoreError> {
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
        // A forked child drops its copy, and must not say that the lock is free.
        if *holder == Some(std::process::id()) {
            *holder = None;
            system::unlock(&self.lock.file);
        }
    }
}

fn refused(path: &Path, name: &Path, error: &std::io::Error) -> StoreError {
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

    /// Whether the lock is this process's now.
    pub fn lock(file: &File) -> std::io::Result<bool> {
        match fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub fn unlock(file: &File) {
        // It is held by this process, and giving up what is held cannot fail.
        let _ = fcntl_lock(file, FlockOperation::NonBlockingUnlock);
    }

    pub fn holder(file: &File) -> std::io::Result<LockHolder> {
        Ok(match fcntl_getlk(file, &Flock::from(FlockType::WriteLock))? {
            None => LockHolder::Nobody,
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

    /// Whether the lock is this process's now.
    pub fn lock(file: &File) -> std::io::Result<bool> {
        match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub fn unlock(file: &File) {
        // It is held by this process, and giving up what is held cannot fail.
        let _ = file.unlock();
    }

    pub fn holder(file: &File) -> std::io::Result<LockHolder> {
        match file.try_lock_shared() {
            Ok(()) => file.unlock().map(|()| LockHolder::Nobody),
            Err(TryLockError::WouldBlock) => Ok(LockHolder::Another(None)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
