//! The meaning of errors of PostgreSQL, by their codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.

use std::io::ErrorKind;

use crate::failure::{Failure, FailureKind};

/// The server refused before anything ran: it is starting or shutting down (57P03), has too many connections (53300),
/// or rolled the transaction back because of another one (40001, 40P01).
const NOT_APPLIED: &[&str] = &["57P03", "53300", "40001", "40P01"];

/// Failures that pass: of connections (class 08), of resources (53: full disk, out of memory), of operators (57P: shut
/// down, crashed, starting; 57014: cancelled), of limits on sessions (25P03, 25P04), of the disk (58), of transactions
/// that were in each other's way (40), of locks (55P03), of a server that has become a replica (25006), of a plan that
/// has changed (0A000), of letting in (28): the store was let in when it was opened, so its token or password is just
/// being renewed.
const PASSING: &[&str] = &["08", "53", "57P", "57014", "25P03", "25P04", "58", "40", "55P03", "25006", "0A000", "28"];

/// The kind of an error of the client library.
pub fn kind(error: &sqlx::Error) -> FailureKind {
    match error {
        sqlx::Error::Database(error) => kind_of_code(&error.code().unwrap_or_default()),
        sqlx::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => FailureKind::NotApplied,
        sqlx::Error::PoolTimedOut => FailureKind::NotApplied,
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => {
            FailureKind::InDoubt
        }
        _ => FailureKind::Refused,
    }
}

fn kind_of_code(code: &str) -> FailureKind {
    let is_among = |codes: &[&str]| codes.iter().any(|known| code.starts_with(known));
    if is_among(NOT_APPLIED) {
        FailureKind::NotApplied
    } else if is_among(PASSING) {
        FailureKind::InDoubt
    } else {
        FailureKind::Refused
    }
}

/// Whether waiting can help.
pub fn is_temporary(error: &sqlx::Error) -> bool {
    matches!(kind(error), FailureKind::NotApplied | FailureKind::InDoubt)
}

pub fn failed(operation: &str, error: &sqlx::Error) -> Failure {
    Failure::new(kind(error), operation, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_whether_the_server_can_have_done_the_work() {
        for code in ["57P03", "53300", "40001", "40P01"] {
            assert_eq!(kind_of_code(code), FailureKind::NotApplied, "{code}");
        }
        for code in ["08006", "53100", "57P01", "57014", "25P03", "58030", "40003", "55P03", "25006", "0A000", "28P01"]
        {
            assert_eq!(kind_of_code(code), FailureKind::InDoubt, "{code}");
        }
        for code in ["", "23505", "42P01", "22023", "42501"] {
            assert_eq!(kind_of_code(code), FailureKind::Refused, "{code}");
        }
    }
}
