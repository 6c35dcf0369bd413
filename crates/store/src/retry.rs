//! Which failures of a database pass by themselves, and how long to wait for them.
//!
//! The engine's error carries no code, only text: the bundled providers drop the SQLSTATE. So PostgreSQL's messages are
//! matched as they read with `lc_messages` in English; in another language `retryable` and the driver's own texts remain.

use std::time::{Duration, Instant};

use duroxide::providers::ProviderError;

use crate::backoff::LONGEST_PAUSE;
use crate::error::CLOSED;

/// The lock is gone: cancelled, expired or taken by another. Retrying cannot help.
const LOCK_LOST: &[&str] = &[
    "invalid lock token",
    "lock token invalid",
    "lock expired",
    "lock has expired",
    "activity was cancelled",
    "already acked",
    "already released",
];

/// Refused before anything ran: repeating it cannot do the work twice.
const NOT_APPLIED: &[&str] = &[
    "database is locked",
    "database table is locked",
    "sqlite_busy",
    "pool timed out",
    "database or disk is full",
    "connection refused",
    "the database system is", // 57P03: starting up, shutting down, in recovery
    "cannot connect now",
    "too many clients", // 53300
    "too many connections",
    "remaining connection slots are reserved", // 53300
    "could not serialize access",              // 40001
    "deadlock detected",                       // 40P01
];

/// Broken off: the server may have done the work, or not.
const BROKEN_OFF: &[&str] = &[
    "terminating connection", // 57P01, 57P02
    "server closed the connection",
    "connection reset",
    "connection error",
    "connection to server",
    "connection pool error",
    "connection does not exist", // 08003
    "connection failure",        // 08006
    "broken pipe",
    "unexpected end of file",
    "expected to read",
    "error communicating with",
    "i/o error",
    "timed out",
    "timeout",
    "canceling statement due to",
    "unexpected error: error communicating",
    "encountered unexpected or invalid data", // a protocol error of a connection that was cut
];

fn names(texts: &[&str], error: &ProviderError) -> bool {
    let message = error.message.to_lowercase();
    texts.iter().any(|text| message.contains(text))
}

/// Whether the holder of a lock was told that it no longer has it.
pub fn lock_lost(error: &ProviderError) -> bool {
    !error.retryable && names(LOCK_LOST, error)
}

/// Whether waiting can help.
pub fn transient(error: &ProviderError) -> bool {
    error.message != CLOSED
        && !lock_lost(error)
        && (error.retryable || names(NOT_APPLIED, error) || names(BROKEN_OFF, error))
}

/// Whether an operation that is not idempotent can be sent again.
pub fn not_applied(error: &ProviderError) -> bool {
    transient(error) && names(NOT_APPLIED, error)
}

/// How long an operation is repeated.
#[derive(Debug, Clone, Copy)]
pub enum RetryLimit {
    /// A caller waits for the answer.
    Caller,
    /// As [`RetryLimit::Caller`], but only after a refusal: a second delivery would be seen.
    CallerOnce,
    /// A lease is held: giving up would make the engine fail the orchestration. The end comes with the answer that the
    /// lock is lost.
    Lease,
}

const CALLER_PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The state of one operation that is being repeated.
pub struct Retry {
    patience: RetryLimit,
    began: Instant,
    pause: Duration,
    /// Whether an earlier attempt may have been applied although it failed.
    pub ambiguous: bool,
}

impl Retry {
    pub fn new(patience: RetryLimit) -> Self {
        Self { patience, began: Instant::now(), pause: FIRST_PAUSE, ambiguous: false }
    }

    /// How long to wait before the next attempt; `None` when `error` is the answer.
    pub fn pause_after(&mut self, error: &ProviderError) -> Option<Duration> {
        if !transient(error) {
            return None;
        }
        match self.patience {
            RetryLimit::Lease => {}
            RetryLimit::Caller if self.began.elapsed() < CALLER_PATIENCE => {}
            RetryLimit::CallerOnce if not_applied(error) && self.began.elapsed() < CALLER_PATIENCE => {}
            RetryLimit::Caller | RetryLimit::CallerOnce => return None,
        }
        self.ambiguous |= !not_applied(error);
        let pause = self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

/// Runs one operation of a store, and repeats it after failures that pass; `$call` is evaluated again for each try.
#[macro_export]
macro_rules! retrying {
    ($availability:expr, $operation:expr, $retry:expr, $call:expr) => {{
        let availability = &*$availability;
        let retry: &mut $crate::retry::Retry = $retry;
        loop {
            let outcome = match availability.check_open($operation) {
                Err(error) => Err(error),
                Ok(()) => $call.await,
            };
            match outcome {
                Ok(value) => {
                    availability.outage_ended();
                    break Ok(value);
                }
                Err(error) => match retry.pause_after(&error) {
                    Some(pause) => {
                        if pause >= $crate::retry::OUTAGE_PAUSE {
                            availability.outage_began(&error);
                        }
                        tokio::time::sleep(pause).await;
                    }
                    None => break Err(error),
                },
            }
        }
    }};
}

/// A pause this long means an outage. Shorter ones come from transactions that block each other.
pub const OUTAGE_PAUSE: Duration = Duration::from_millis(300);
