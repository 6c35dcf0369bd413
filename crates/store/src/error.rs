//! What can go wrong with a store.

use std::panic::{self, AssertUnwindSafe};

use tokio::task::{JoinError, JoinHandle};

use crate::failure::{CLOSED, Failure, FailureKind};

/// The result of an operation of a store.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// A store could not be opened, or refused an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The given url, path, schema or file cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// The database does not answer, or does not accept the connection.
    #[error("{0}")]
    Unavailable(String),
    /// An instance with this id exists; `orchestration` is the one that it runs.
    #[error(
        "instance '{instance}' already exists and runs orchestration '{orchestration}'; \
         choose another id, or delete the instance first"
    )]
    InstanceAlreadyExists { instance: String, orchestration: String },
    /// The database refused or failed an operation.
    #[error("the store failed in {}: {}", .0.operation, .0.message)]
    Failed(Failure),
    /// `close` was called.
    #[error("{CLOSED}")]
    Closed,
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        if failure.kind == FailureKind::Closed { Self::Closed } else { Self::Failed(failure) }
    }
}

/// Runs blocking work on a thread that may block.
pub async fn unblocked<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(work)?.await.map_err(task_failed)?
}

/// Starts blocking work on a thread that may block.
///
/// # Errors
///
/// The system gives no thread. Tokio panics then.
pub fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StoreError> {
    panic::catch_unwind(AssertUnwindSafe(|| tokio::task::spawn_blocking(work))).map_err(|_| {
        StoreError::Unavailable(
            "no thread could be started; raise the limit of processes and threads of this process".to_owned(),
        )
    })
}

/// The error of a task that panicked, or that the end of the process cut off.
pub fn task_failed(error: JoinError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
