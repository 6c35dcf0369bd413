//! What can go wrong with a store, seen from outside.

use std::fmt;

use duroxide::providers::ProviderError;

/// A store could not be opened, or refused an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// The url, path, schema or file given cannot be used as it is.
    Configuration(String),
    /// The database does not answer, or does not let us in.
    Unavailable(String),
    /// An instance with this id exists; `orchestration` is the one that it runs.
    InstanceAlreadyExists { instance: String, orchestration: String },
    /// The database refused or failed an operation.
    Provider(ProviderError),
    /// `close` was called.
    Closed,
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(message) | Self::Unavailable(message) => formatter.write_str(message),
            Self::InstanceAlreadyExists { instance, orchestration } => write!(
                formatter,
                "instance '{instance}' already exists and runs orchestration '{orchestration}'; \
                 choose another id, or delete the instance first"
            ),
            Self::Provider(error) => write!(formatter, "the store failed in {}: {}", error.operation, error.message),
            Self::Closed => formatter.write_str("the store is closed; open it again to go on"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<ProviderError> for StoreError {
    fn from(error: ProviderError) -> Self {
        if error.message == CLOSED { Self::Closed } else { Self::Provider(error) }
    }
}

/// The message of the engine's error type for an operation on a closed store.
pub(super) const CLOSED: &str = "the store is closed; open it again to go on";
