//! Tracks whether an opened store can be used: whether it is closed, and whether its database answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::Result;
use crate::failure::{Failure, FailureKind};

pub struct Availability {
    description: String,
    closed: AtomicBool,
    outage: AtomicBool,
    /// The last refusal that was reported, and when.
    obstruction: Mutex<Option<(String, Instant)>>,
}

impl Availability {
    pub fn of(description: String) -> Arc<Self> {
        Arc::new(Self {
            description,
            closed: AtomicBool::new(false),
            outage: AtomicBool::new(false),
            obstruction: Mutex::default(),
        })
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

    /// Warns once when the database stops answering, or refuses what an operator has to permit.
    pub fn outage_began(&self, error: &Failure) {
        if matches!(error.kind, FailureKind::Obstructed | FailureKind::Refused) {
            self.warn_of_obstruction(error);
        } else if !self.outage.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "duroxide::store",
                store = %self.description,
                error = %error,
                "the store does not answer; waiting for it"
            );
        }
    }

    /// Warns of a cause once a minute, since other operations may succeed in between.
    fn warn_of_obstruction(&self, error: &Failure) {
        const PAUSE: Duration = Duration::from_secs(60);
        let mut reported = self.obstruction.lock();
        if reported.as_ref().is_some_and(|(message, since)| *message == error.message && since.elapsed() < PAUSE) {
            return;
        }
        *reported = Some((error.message.clone(), Instant::now()));
        tracing::warn!(
            target: "duroxide::store",
            store = %self.description,
            "{} refuses an operation: {}; the work continues when the cause is removed",
            self.description,
            error.message
        );
    }

    pub fn outage_ended(&self) {
        if self.outage.load(Ordering::Relaxed) && self.outage.swap(false, Ordering::Relaxed) {
            tracing::info!(target: "duroxide::store", store = %self.description, "the store answers again");
        }
    }
}
