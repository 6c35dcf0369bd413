//! Failures of TLS.

use std::{error, fmt};

use openssl::error::ErrorStack;
use openssl::ssl;
use openssl::x509::X509VerifyResult;

pub type Result<T> = std::result::Result<T, Error>;

/// A failure to set TLS up, or to shake hands.
#[derive(Debug)]
pub enum Error {
    /// OpenSSL cannot use a file or a setting.
    Setup(ErrorStack),
    /// The handshake failed.
    Handshake(ssl::Error),
    /// The certificate of the server is refused.
    Refused(X509VerifyResult),
    /// A file or a name of the user cannot be used.
    Unusable(&'static str),
}

impl From<ErrorStack> for Error {
    fn from(error: ErrorStack) -> Self {
        Self::Setup(error)
    }
}

impl error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(error) => error.fmt(formatter),
            Self::Handshake(error) => error.fmt(formatter),
            Self::Refused(reason) => write!(formatter, "certificate verify failed: {}", reason.error_string()),
            Self::Unusable(text) => formatter.write_str(text),
        }
    }
}
