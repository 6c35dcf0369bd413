//! The health of the disk: it accepts writes, it refuses them for now, or the store can no longer be trusted.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::ErrorCode;
use rusqlite::ffi;
use tokio::sync::Notify;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Healthy,
    Stalled(String),
    Broken(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFailure {
    /// The failure may end, for example when the disk has free space again.
    Temporary,
    /// Written data may be lost, and reads may return wrong data.
    Permanent,
}

impl DiskFailure {
    pub fn of(error: &rusqlite::Error) -> Self {
        let Some(failure) = error.sqlite_error() else { return Self::Permanent };
        match failure.extended_code {
            // The kernel drops data that it could not write, so another sync would succeed although the data is lost.
            ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC | ffi::SQLITE_IOERR_SHORT_READ => Self::Permanent,
            _ => match failure.code {
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::OutOfMemory
                | ErrorCode::SystemIoFailure
                | ErrorCode::OperationInterrupted => Self::Temporary,
                _ => Self::Permanent,
            },
        }
    }
}

pub struct Health {
    /// The description of the store, for messages.
    description: String,
    /// The condition, and whether the store is being closed.
    condition: Mutex<(Condition, bool)>,
    changed: Condvar,
    /// Wakes waiting tasks at each change.
    pub changes: Notify,
}

impl Health {
    pub fn new(description: String) -> Self {
        Self {
            description,
            condition: Mutex::new((Condition::Healthy, false)),
            changed: Condvar::new(),
            changes: Notify::new(),
        }
    }

    /// The reason why the store can no longer be trusted.
    pub fn broken(&self) -> Option<String> {
        match &self.condition.lock().0 {
            Condition::Broken(reason) => Some(reason.clone()),
            _ => None,
        }
    }

    /// The reason why the writer waits for the disk.
    pub fn stalled(&self) -> Option<String> {
        match &self.condition.lock().0 {
            Condition::Stalled(reason) => Some(reason.clone()),
            _ => None,
        }
    }

    pub fn stall(&self, error: &rusqlite::Error) {
        let reason = format!("{}: {error}", self.description);
        let mut condition = self.condition.lock();
        if condition.0 == Condition::Healthy {
            condition.0 = Condition::Stalled(reason.clone());
            drop(condition);
            self.changes.notify_waiters();
            tracing::warn!(
                target: "duroxide::store",
                "{reason}; the store waits until the disk accepts writes, and loses nothing that was acknowledged"
            );
        }
    }

    pub fn recover(&self) {
        let mut condition = self.condition.lock();
        if matches!(condition.0, Condition::Stalled(_)) {
            condition.0 = Condition::Healthy;
            drop(condition);
            self.changes.notify_waiters();
            tracing::info!(target: "duroxide::store", "{} can be written again", self.description);
        }
    }

    pub fn fail(&self, reason: &str) {
        let reason = format!(
            "{}: {reason}; this process neither reads it nor writes to it any more, so that acknowledged changes stay \
             as they are: check the file and its disk, then open it again",
            self.description
        );
        let mut condition = self.condition.lock();
        if !matches!(condition.0, Condition::Broken(_)) {
            condition.0 = Condition::Broken(reason.clone());
            drop(condition);
            self.changed.notify_all();
            self.changes.notify_waiters();
            tracing::error!(target: "duroxide::store", "{reason}");
        }
    }

    /// Ends each wait for the disk, since the store is closed.
    pub fn begin_closing(&self) {
        self.condition.lock().1 = true;
        self.changed.notify_all();
    }

    pub fn is_closing(&self) -> bool {
        self.condition.lock().1
    }

    /// Waits before the next attempt. Returns whether the store is being closed.
    pub fn wait_while_stalled(&self, pause: Duration) -> bool {
        let mut condition = self.condition.lock();
        if !condition.1 {
            self.changed.wait_for(&mut condition, pause);
        }
        condition.1
    }
}
