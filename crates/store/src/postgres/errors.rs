//! What failures of PostgreSQL mean, by their codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.

use duroxide::providers::ProviderError;

/// Failures that pass: of connections (class 08), of resources (53: too many connections, full disk, out of memory), of operators
/// (57P: shut down, crashed, starting; 57014: cancelled), of the disk (58), of transactions that were in each other's way (40), of locks
/// (55P03), of a server that has become a replica (25006), of a plan that has changed (0A000), of letting in (28): the store was
/// let in when it was opened, so its token or password is just being renewed.
const PASSING: &[&str] = &["08", "53", "57P", "57014", "58", "40", "55P03", "25006", "0A000", "28"];

/// Whether waiting can help.
pub fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            PASSING.iter().any(|passing| code.starts_with(passing))
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// The engine's form of it.
pub fn failed(operation: &str, error: &sqlx::Error) -> ProviderError {
    let message = error.to_string();
    if passes(error) {
        ProviderError::retryable(operation, message)
    } else {
        ProviderError::permanent(operation, message)
    }
}
