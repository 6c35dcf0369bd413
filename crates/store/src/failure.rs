//! Why an operation of a store failed.
//!
//! Control flow reads [`Failure::kind`] and never the text. The engine's own error has no room for a kind, so failures
//! become [`ProviderError`]s only where they leave for the engine.

use duroxide::providers::ProviderError;

/// The meaning of a failure for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// `close` was called on the store, or on the part of it that did the work.
    Closed,
    /// The token stands for no lease: the lease ended, was released, or its work was cancelled. Repeating cannot help.
    LockLost,
    /// Refused before anything ran. Every operation may be repeated.
    NotApplied,
    /// Broken off: the operation may have been applied. It may be repeated where a second application does no harm.
    InDoubt,
    /// The instance or the execution does not exist.
    NotFound,
    /// The instance has not ended, which the operation requires.
    StillRunning,
    /// The instance has a parent, and the operation takes roots only.
    HasParent,
    /// A recorded event cannot be decoded.
    Unreadable,
    /// The database itself is damaged or no longer to be trusted. Waiting does not help.
    Unusable,
    /// Refused for a reason outside the data that an operator can remove: a missing grant, a trigger, a dropped table.
    Obstructed,
    /// Refused for good, or not to be repeated because a second application would do harm.
    Refused,
}

/// An operation of a store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {message}")]
pub struct Failure {
    pub kind: FailureKind,
    /// The engine's name of the operation, or ours where the engine has none.
    pub operation: String,
    pub message: String,
}

impl Failure {
    pub fn new(kind: FailureKind, operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, operation: operation.into(), message: message.into() }
    }

    pub fn closed(operation: impl Into<String>) -> Self {
        Self::new(FailureKind::Closed, operation, CLOSED)
    }

    pub fn lock_lost(operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(FailureKind::LockLost, operation, message)
    }

    pub fn not_applied(operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(FailureKind::NotApplied, operation, message)
    }

    pub fn in_doubt(operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(FailureKind::InDoubt, operation, message)
    }

    pub fn not_found(operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(FailureKind::NotFound, operation, message)
    }

    pub fn still_running(operation: impl Into<String>, instance: &str) -> Self {
        let message =
            format!("Instance {instance} is still running. Use force=true to delete anyway, or cancel first.");
        Self::new(FailureKind::StillRunning, operation, message)
    }

    pub fn unreadable(operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(FailureKind::Unreadable, operation, message)
    }

    pub fn unusable(operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(FailureKind::Unusable, operation, message)
    }

    pub fn refused(operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(FailureKind::Refused, operation, message)
    }

    /// Whether the caller no longer holds the lease that its token stood for.
    pub fn is_lock_lost(&self) -> bool {
        self.kind == FailureKind::LockLost
    }

    /// Whether waiting can help.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, FailureKind::NotApplied | FailureKind::InDoubt)
    }
}

/// The message of every failure of kind [`FailureKind::Closed`].
pub const CLOSED: &str = "the store is closed; open it again to go on";

impl From<Failure> for ProviderError {
    fn from(failure: Failure) -> Self {
        let retryable = failure.is_transient();
        Self { operation: failure.operation, message: failure.message, retryable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_gets_the_text_and_whether_waiting_can_help() {
        let error = ProviderError::from(Failure::in_doubt("read", "no answer"));
        assert_eq!(error, ProviderError::retryable("read", "no answer"));

        let error = ProviderError::from(Failure::lock_lost("ack_work_item", "the lease ended"));
        assert_eq!(error, ProviderError::permanent("ack_work_item", "the lease ended"));
    }

    #[test]
    fn failure_reads_as_the_error_of_the_engine() {
        let failure = Failure::closed("read");
        assert_eq!(failure.to_string(), ProviderError::from(failure.clone()).to_string());
    }
}
