//! The right to work on a store: a lock of the operating system on a separate file. The lock ends with the process that
//! holds it, even after a crash.
//!
//! The lock belongs to an open file of this process ([`system`]). A forked child gets a copy of the descriptor, which
//! would keep the lock after the end of its parent, so the child closes its copies first of all.
//!
//! A lock file that is deleted or replaced gives the next process another lock. That process then is the owner:
//! [`OwnerLock::place`] lets the owner before it find that out at its next commit.

pub mod system;
#[cfg(test)]
pub mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Once, Weak};

use parking_lot::Mutex;

use crate::error::StoreError;
use crate::sqlite::file::companion::{self, Access};
use crate::sqlite::file::lock::system::LockState;
use crate::sqlite::file::paths::{Identity, beside, identity};
use crate::sqlite::file::{network_fs, single_path};

/// The lock files that this process has open, by path.
static LOCK_FILES: LazyLock<Mutex<HashMap<PathBuf, Weak<LockFile>>>> = LazyLock::new(Mutex::default);
static CLOSES_IN_FORKED_CHILDREN: Once = Once::new();

struct LockFile {
    name: PathBuf,
    identity: Identity,
    descriptor: Mutex<Descriptor>,
}

struct Descriptor {
    /// `None` in a forked child.
    file: Option<File>,
    /// The process that holds the lock through this descriptor. A forked child must not release the lock of its parent.
    holder: Option<u32>,
}

/// Acquires the lock of a store, and finds out which process holds it.
pub struct LockHandle {
    path: PathBuf,
    lock: Mutex<Arc<LockFile>>,
}

/// The lock of a store while this process holds it. Dropping this releases the lock.
pub struct OwnerLock {
    lock: Arc<LockFile>,
}

/// The path and the identity of a lock file.
#[derive(Debug, Clone)]
pub struct LockPlace {
    pub name: PathBuf,
    pub identity: Identity,
}

/// The process that holds the lock of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockHolder {
    None,
    ThisProcess,
    /// Another process, with its number if that is known.
    Another(Option<u32>),
}

impl LockHandle {
    /// Opens the lock file of the store at `path`, which must be absolute and canonical. Fails where no store can be.
    pub fn new(path: &Path) -> Result<Self, StoreError> {
        network_fs::refuse(path)?;
        single_path::refuse_second(path)?;
        Ok(Self { path: path.to_owned(), lock: Mutex::new(open(path)?) })
    }

    /// Acquires the lock; `None` if this process or another one holds it already.
    pub fn try_acquire(&self) -> Result<Option<OwnerLock>, StoreError> {
        // The file may have got a second name since it was opened.
        single_path::refuse_second(&self.path)?;
        loop {
            let lock = self.current()?;
            {
                let mut descriptor = lock.descriptor.lock();
                let Some(file) = &descriptor.file else { continue };
                if descriptor.is_of_this_process() || !self.supported(system::lock(file))? {
                    return Ok(None);
                }
                write_process_number(file);
                descriptor.holder = Some(std::process::id());
            }
            let owner_lock = OwnerLock { lock };
            // Another process may have locked another file if this one was deleted before the lock was taken.
            if owner_lock.lock.is_in_place() {
                return Ok(Some(owner_lock));
            }
        }
    }

    /// The process that holds the lock at this moment.
    pub fn holder(&self) -> Result<LockHolder, StoreError> {
        loop {
            let lock = self.current()?;
            let descriptor = lock.descriptor.lock();
            let Some(file) = &descriptor.file else { continue };
            if descriptor.is_of_this_process() {
                return Ok(LockHolder::ThisProcess);
            }
            return Ok(match self.supported(system::holder(file))? {
                LockState::Free => LockHolder::None,
                LockState::Held(process) => LockHolder::Another(process.or_else(|| process_number(&lock.name))),
            });
        }
    }

    /// The lock file that is at the path now.
    fn current(&self) -> Result<Arc<LockFile>, StoreError> {
        let mut lock = self.lock.lock();
        if !lock.is_in_place() || lock.is_closed() {
            *lock = open(&self.path)?;
        }
        Ok(Arc::clone(&lock))
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

impl OwnerLock {
    /// Where the lock is, for a check whether it is still the one lock of the store.
    pub fn place(&self) -> LockPlace {
        LockPlace { name: self.lock.name.clone(), identity: self.lock.identity }
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        let mut descriptor = self.lock.descriptor.lock();
        if descriptor.is_of_this_process() {
            descriptor.holder = None;
            if let Some(file) = &descriptor.file {
                system::unlock(file);
            }
        }
    }
}

impl Descriptor {
    /// Whether this process holds the lock through this descriptor.
    fn is_of_this_process(&self) -> bool {
        self.holder == Some(std::process::id())
    }
}

impl LockFile {
    fn is_in_place(&self) -> bool {
        identity(&self.name) == Some(self.identity)
    }

    fn is_closed(&self) -> bool {
        self.descriptor.lock().file.is_none()
    }
}

/// The lock file of the store at `path`, which all handles of this process share.
fn open(path: &Path) -> Result<Arc<LockFile>, StoreError> {
    CLOSES_IN_FORKED_CHILDREN.call_once(|| system::on_fork_in_child(close_in_forked_child));
    let name = beside(path, "-lock");
    let mut files = LOCK_FILES.lock();
    files.retain(|_, file| file.strong_count() > 0);
    if let Some(lock) = files.get(&name).and_then(Weak::upgrade)
        && lock.is_in_place()
        && !lock.is_closed()
    {
        return Ok(lock);
    }
    let file = companion::open(path, &name, Access::Writers)?;
    let metadata = file
        .metadata()
        .map_err(|error| StoreError::Unavailable(format!("'{}' could not be examined: {error}", name.display())))?;
    let identity = Identity::of(&metadata);
    let descriptor = Mutex::new(Descriptor { file: Some(file), holder: None });
    let lock = Arc::new(LockFile { name: name.clone(), identity, descriptor });
    files.insert(name, Arc::downgrade(&lock));
    Ok(lock)
}

/// Closes this process's copies of its parent's descriptors. The parent keeps its locks. A copy stays open if another
/// thread of the parent used it at the moment of the fork; it ends with this process.
extern "C" fn close_in_forked_child() {
    let Some(files) = LOCK_FILES.try_lock() else { return };
    for lock in files.values().filter_map(Weak::upgrade) {
        if let Some(mut descriptor) = lock.descriptor.try_lock() {
            *descriptor = Descriptor { file: None, holder: None };
        }
    }
}

/// Writes the number of this process into the lock file, for messages that name the owner.
fn write_process_number(mut file: &File) {
    let _ = file.set_len(0);
    let _ = file.rewind();
    let _ = writeln!(file, "{}", std::process::id());
}

/// The number that the holder of the lock has written.
fn process_number(name: &Path) -> Option<u32> {
    std::fs::read_to_string(name).ok()?.trim().parse().ok()
}
