//! What can go wrong with a store.

use duroxide::providers::ProviderError;
use tokio::task::JoinError;

/// The result of an operation of a store. The engine's own operations fail with its [`ProviderError`].
pub type Result<T, E = ProviderError> = std::result::Result<T, E>;

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
    Provider(ProviderError),
    /// `close` was called.
    #[error("{CLOSED}")]
    Closed,
}

impl From<ProviderError> for StoreError {
    fn from(error: ProviderError) -> Self {
        if error.message == CLOSED { Self::Closed } else { Self::Provider(error) }
    }
}

/// The message of the engine's error type for an operation on a closed store.
pub const CLOSED: &str = "the store is closed; open it again to go on";

pub fn not_found(operation: &str, message: &str) -> StoreError {
    StoreError::Provider(ProviderError::permanent(operation, message))
}

/// Runs blocking work on a thread that may block.
pub async fn unblocked<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(task_failed)?
}

/// The error of a task that panicked, or that the end of the process cut off.
pub fn task_failed(error: JoinError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
