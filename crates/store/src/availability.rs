//! Tracks whether an opened store can be used: whether it is closed, and whether its database answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Result;
use crate::failure::Failure;

pub struct Availability {
    description: String,
    closed: AtomicBool,
    outage: AtomicBool,
}

impl Availability {
    pub fn of(description: String) -> Arc<Self> {
        Arc::new(Self { description, closed: AtomicBool::new(false), outage: AtomicBool::new(false) })
    }

    /// The name of the store for logs. It never holds a password.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Refuses an operation on a store that is closed.
    pub fn check_open(&self, operation: &str) -> Result<()> {
        if self.is_closed() {
            return Err(Failure::closed(operation));
        }
        Ok(())
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Warns once when the database stops answering.
    pub fn outage_began(&self, error: &Failure) {
        if !self.outage.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "duroxide::store",
                store = %self.description,
                error = %error,
                "the store does not answer; waiting for it"
            );
        }
    }

    pub fn outage_ended(&self) {
        if self.outage.load(Ordering::Relaxed) && self.outage.swap(false, Ordering::Relaxed) {
            tracing::info!(target: "duroxide::store", store = %self.description, "the store answers again");
        }
    }
}
