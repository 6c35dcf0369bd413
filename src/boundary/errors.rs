//! Every failure that leaves the native side, mapped by variant to the classes of `duroxide.exceptions`.

use pyo3::PyErr;

use store::{Failure, FailureKind, StoreError};

pub(crate) use crate::boundary::python::{
    CancelledError, ClientError, ConfigurationError, DuroxideError, InstanceAlreadyExists, InstanceNotFound,
    InstanceStillRunning, LimitExceeded, NotAllowedInOrchestration, ProviderError, TurnClosed, WaitTimedOut,
};

/// The errors of a call that runs with the interpreter released.
#[derive(Debug)]
pub(crate) enum Error {
    /// The store refused or failed.
    Store(StoreError),
    /// The instance does not exist; the text is its id.
    NotFound(String),
    /// The instance was deleted while a call waited for it; the text is its id.
    Deleted(String),
    /// The instance has not ended; the text is its id.
    StillRunning(String),
    /// The instance is a sub-orchestration; the text is its id.
    HasParent(String),
    /// A wait ended before what it waited for; the text says for what, how long, and what is known.
    TimedOut(String),
    /// Python code that was called raised.
    Python(PyErr),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Store(failure.into())
    }
}

impl Error {
    /// A failure of an operation on `instance`.
    pub(crate) fn of_instance(instance: &str, failure: Failure) -> Self {
        match failure.kind {
            FailureKind::NotFound => Self::NotFound(instance.to_owned()),
            FailureKind::StillRunning => Self::StillRunning(instance.to_owned()),
            FailureKind::HasParent => Self::HasParent(instance.to_owned()),
            _ => failure.into(),
        }
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => store_error(&error),
            Error::NotFound(instance) => {
                InstanceNotFound::new_err(format!("instance '{instance}' does not exist in this store"))
            }
            Error::Deleted(instance) => {
                InstanceNotFound::new_err(format!("instance '{instance}' was deleted while this call waited for it"))
            }
            Error::StillRunning(instance) => InstanceStillRunning::new_err(format!(
                "instance '{instance}' is still running; cancel it and wait for its end, or delete it with force=True"
            )),
            Error::HasParent(instance) => ClientError::new_err(format!(
                "instance '{instance}' is a sub-orchestration; delete the root instance of its tree instead"
            )),
            Error::TimedOut(message) => WaitTimedOut::new_err(message),
            Error::Python(error) => error,
        }
    }
}

fn store_error(error: &StoreError) -> PyErr {
    let message = error.to_string();
    match error {
        StoreError::Configuration(_) => ConfigurationError::new_err(message),
        StoreError::InstanceAlreadyExists { .. } => InstanceAlreadyExists::new_err(message),
        StoreError::Failed(_) | StoreError::Unavailable(_) | StoreError::Closed => ProviderError::new_err(message),
    }
}
