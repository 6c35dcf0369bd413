//! How the disk is: well, not able to take anything right now, or no longer to be trusted.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::ErrorCode;
use rusqlite::ffi;
use tokio::sync::Notify;

use crate::sqlite::owner::OwnerCore;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Well,
    Stalled(String),
    Broken(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Room on the disk, say, makes it go on.
    Passing,
    /// What was written may be lost, and what is read may be wrong.
    Lasting,
}

impl Trouble {
    pub fn of(error: &rusqlite::Error) -> Self {
        let Some(failure) = error.sqlite_error() else { return Self::Lasting };
        match failure.extended_code {
            // The kernel forgets what it could not write, so another sync would succeed and prove nothing.
            ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC | ffi::SQLITE_IOERR_SHORT_READ => Self::Lasting,
            _ => match failure.code {
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::OutOfMemory
                | ErrorCode::SystemIoFailure
                | ErrorCode::OperationInterrupted => Self::Passing,
                _ => Self::Lasting,
            },
        }
    }
}

pub struct Health {
    condition: Mutex<(Condition, bool)>,
    changed: Condvar,
    /// Told of every change, for those who wait as tasks.
    pub news: Notify,
}

impl Default for Health {
    fn default() -> Self {
        Self { condition: Mutex::new((Condition::Well, false)), changed: Condvar::new(), news: Notify::new() }
    }
}

impl Health {
    /// Why nothing can be trusted any more, if that is so.
    pub fn broken(&self) -> Option<String> {
        match &self.condition.lock().0 {
            Condition::Broken(reason) => Some(reason.clone()),
            _ => None,
        }
    }

    /// What the writer is waiting for, if it is.
    pub fn stalled(&self) -> Option<String> {
        match &self.condition.lock().0 {
            Condition::Stalled(reason) => Some(reason.clone()),
            _ => None,
        }
    }

    pub fn stall(&self, core: &OwnerCore, error: &rusqlite::Error) {
        let reason = format!("{}: {error}", core.description);
        let mut condition = self.condition.lock();
        if condition.0 == Condition::Well {
            condition.0 = Condition::Stalled(reason.clone());
            drop(condition);
            self.news.notify_waiters();
            tracing::warn!(
                target: "duroxide::store",
                "{reason}; what is to be written waits for the disk, and nothing that was acknowledged is lost"
            );
        }
    }

    pub fn recover(&self, core: &OwnerCore) {
        let mut condition = self.condition.lock();
        if matches!(condition.0, Condition::Stalled(_)) {
            condition.0 = Condition::Well;
            drop(condition);
            self.news.notify_waiters();
            tracing::info!(target: "duroxide::store", "{} takes what is written again", core.description);
        }
    }

    pub fn fail(&self, core: &OwnerCore, reason: &str) {
        let reason = format!(
            "{}: {reason}; nothing more is read from it or written to it by this process, so that what was acknowledged \
             stays as it is: look after the file or its disk, then open it again",
            core.description
        );
        let mut condition = self.condition.lock();
        if !matches!(condition.0, Condition::Broken(_)) {
            condition.0 = Condition::Broken(reason.clone());
            drop(condition);
            self.changed.notify_all();
            self.news.notify_waiters();
            tracing::error!(target: "duroxide::store", "{reason}");
        }
    }

    /// Ends every wait for the disk, since the store is closed.
    pub fn give_up(&self) {
        self.condition.lock().1 = true;
        self.changed.notify_all();
    }

    pub fn is_given_up(&self) -> bool {
        self.condition.lock().1
    }

    /// Waits a moment before the next attempt; true when the store is being closed.
    pub fn wait_while_stalled(&self, pause: Duration) -> bool {
        let mut condition = self.condition.lock();
        if !condition.1 {
            self.changed.wait_for(&mut condition, pause);
        }
        condition.1
    }
}
