//! The lock of the operating system: it belongs to an open file, and ends when the last copy of the descriptor is closed.
//!
//! A POSIX record lock would end when its process closes *any* descriptor of the file, so a program that reads or copies
//! the lock file would end the right to work.

#[cfg(target_os = "linux")]
pub use linux::{holder, lock, on_fork_in_child, unlock};
#[cfg(not(target_os = "linux"))]
pub use portable::{holder, lock, on_fork_in_child, unlock};

/// What the system says about a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockState {
    Free,
    /// Another open file holds it, of the process with this number if the system reports one.
    Held(Option<u32>),
}

/// Open-file-description locks. They and POSIX record locks exclude each other, so a process of an earlier version of
/// this package, which takes a record lock, is excluded too.
#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io::{Error, ErrorKind, Result};
    use std::os::fd::AsRawFd as _;

    use crate::sqlite::file::lock::system::LockState;

    /// Tries to take the lock. Returns whether this open file holds it now.
    pub fn lock(file: &File) -> Result<bool> {
        match call(file, libc::F_OFD_SETLK, libc::F_WRLCK) {
            Ok(_) => Ok(true),
            Err(error) if is_held(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub fn unlock(file: &File) {
        // This open file holds the lock, so releasing it cannot fail.
        let _ = call(file, libc::F_OFD_SETLK, libc::F_UNLCK);
    }

    /// Who holds the lock. This never delays another process that wants the lock.
    pub fn holder(file: &File) -> Result<LockState> {
        let answer = call(file, libc::F_OFD_GETLK, libc::F_WRLCK)?;
        if i32::from(answer.l_type) == libc::F_UNLCK {
            return Ok(LockState::Free);
        }
        // The system reports the process of a record lock only.
        Ok(LockState::Held(u32::try_from(answer.l_pid).ok().filter(|process| *process != 0)))
    }

    fn is_held(error: &Error) -> bool {
        error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EACCES)
    }

    /// Carries out one lock command on the whole file.
    #[expect(unsafe_code, reason = "no dependency has a safe interface for these locks")]
    fn call(file: &File, command: libc::c_int, kind: libc::c_int) -> Result<libc::flock> {
        // SAFETY: a `flock` of zeros is valid, and means the whole file from its beginning.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        // SAFETY: the descriptor is open, and the structure lives as long as the call.
        match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) } {
            -1 => Err(Error::last_os_error()),
            _ => Ok(lock),
        }
    }

    /// Has every forked child of this process call `handler` before the child does anything else.
    #[expect(unsafe_code, reason = "the standard library has no interface for this")]
    pub fn on_fork_in_child(handler: extern "C" fn()) {
        // SAFETY: the handler is a plain function, which exists as long as the process.
        let failed = unsafe { pthread_atfork(None, None, Some(handler)) };
        if failed != 0 {
            tracing::warn!(target: "duroxide::store", "forked children of this process may keep the lock of its store");
        }
    }

    #[expect(unsafe_code, reason = "the C library has this function, and the crate of its interface lacks it")]
    unsafe extern "C" {
        fn pthread_atfork(
            prepare: Option<extern "C" fn()>,
            parent: Option<extern "C" fn()>,
            child: Option<extern "C" fn()>,
        ) -> libc::c_int;
    }
}

/// The file locks of the standard library: `flock` on macOS, `LockFileEx` on Windows.
#[cfg(not(target_os = "linux"))]
mod portable {
    use std::fs::{File, TryLockError};
    use std::io::Result;

    use crate::sqlite::file::lock::system::LockState;

    /// Tries to take the lock. Returns whether this open file holds it now.
    pub fn lock(file: &File) -> Result<bool> {
        match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub fn unlock(file: &File) {
        // This open file holds the lock, so releasing it cannot fail.
        let _ = file.unlock();
    }

    pub fn holder(file: &File) -> Result<LockState> {
        match file.try_lock_shared() {
            Ok(()) => file.unlock().map(|()| LockState::Free),
            Err(TryLockError::WouldBlock) => Ok(LockState::Held(None)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// A forked child keeps the descriptor on these systems, until it ends or starts another program.
    pub fn on_fork_in_child(_: extern "C" fn()) {}
}
