//! Every failure that leaves the native side, mapped by variant to the classes of `duroxide.exceptions`.

use duroxide::client::ClientError as EngineError;
use duroxide::providers::ProviderError as StoreFailure;
use pyo3::PyErr;

use store::error::StoreError;

pub(crate) use crate::boundary::python::{
    CancelledError, ClientError, ConfigurationError, DuroxideError, InstanceAlreadyExists, InstanceNotFound,
    InstanceStillRunning, LimitExceeded, NotAllowedInOrchestration, ProviderError, TurnClosed, WaitTimedOut,
};

/// What can go wrong in a call that runs with the interpreter released.
#[derive(Debug)]
pub(crate) enum Error {
    /// The engine's client refused or failed.
    Engine(EngineError),
    /// The store refused or failed.
    Store(StoreError),
    /// The instance does not exist; the text is its id.
    NotFound(String),
    /// A wait ended before what it waited for; the text says for what, how long, and what is known.
    TimedOut(String),
    /// Python code that was called raised.
    Python(PyErr),
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<StoreFailure> for Error {
    fn from(error: StoreFailure) -> Self {
        Self::Store(StoreError::Provider(error))
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        match error {
            Error::Engine(error) => engine_error(error),
            Error::Store(error) => store_error(&error),
            Error::NotFound(instance) => not_found(&instance),
            Error::TimedOut(message) => WaitTimedOut::new_err(message),
            Error::Python(error) => error,
        }
    }
}

fn not_found(instance: &str) -> PyErr {
    InstanceNotFound::new_err(format!("instance '{instance}' does not exist in this store"))
}

fn engine_error(error: EngineError) -> PyErr {
    match error {
        EngineError::InstanceNotFound { instance_id } => not_found(&instance_id),
        EngineError::InstanceStillRunning { instance_id } => InstanceStillRunning::new_err(format!(
            "instance '{instance_id}' is still running; cancel it and wait for its end, or delete it with force=True"
        )),
        EngineError::CannotDeleteSubOrchestration { instance_id } => ClientError::new_err(format!(
            "instance '{instance_id}' is a sub-orchestration; delete the root instance of its tree instead"
        )),
        EngineError::Timeout => WaitTimedOut::new_err("the wait ended before what it waited for"),
        EngineError::InvalidInput { message } => ClientError::new_err(message),
        EngineError::ManagementNotAvailable => ClientError::new_err("this store has no management operations"),
        EngineError::Provider(error) => provider_error(&error),
    }
}

fn store_error(error: &StoreError) -> PyErr {
    let message = error.to_string();
    match error {
        StoreError::Configuration(_) => ConfigurationError::new_err(message),
        StoreError::InstanceAlreadyExists { .. } => InstanceAlreadyExists::new_err(message),
        StoreError::Provider(error) => provider_error(error),
        StoreError::Unavailable(_) | StoreError::Closed => ProviderError::new_err(message),
    }
}

fn provider_error(error: &StoreFailure) -> PyErr {
    ProviderError::new_err(format!("the store failed in {}: {}", error.operation, error.message))
}
