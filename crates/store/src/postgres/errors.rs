//! The meaning of errors of PostgreSQL, by their codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.

use std::io::ErrorKind;

use crate::failure::{Failure, FailureKind};

/// The server refused before anything ran: it is starting or shutting down (57P03), has too many connections (53300),
/// rolled the transaction back because of another one (40001, 40P01), or takes no writes (25006).
const NOT_APPLIED: &[&str] = &["57P03", "53300", "40001", "40P01", "25006"];

/// Failures that pass: of connections (class 08), of resources (53: full disk, out of memory), of operators (57P: shut
/// down, crashed, starting; 57014: cancelled), of limits on sessions (25P03, 25P04), of the disk (58), of transactions
/// that were in each other's way (40), of locks (55P03), of a plan that has changed (0A000), of letting in (28): the store
/// was let in when it was opened, so its token or password is just being renewed.
const PASSING: &[&str] = &["08", "53", "57P", "57014", "25P03", "25P04", "58", "40", "55P03", "0A000", "28"];

/// Refusals that an operator can remove: of rights, names and types (42: a missing grant, a dropped table or function), of
/// a dropped schema (3F), of a trigger (P0001), of a constraint that the tables of `duroxide-pg` do not have (23514, 23502),
/// of a statement that a pooler has lost (26), of an encoding that lacks a character (22P05, 22021), of a damaged table or
/// index (XX001, XX002).
const OBSTRUCTED: &[&str] = &["42", "3F", "P0001", "23514", "23502", "26", "22P05", "22021", "XX001", "XX002"];

/// An encoding that lacks a character, and also a character that no encoding of the server takes.
const NOT_IN_REPERTOIRE: &str = "22021";

/// The kind of an error of the client library.
pub fn kind(error: &sqlx::Error) -> FailureKind {
    match error {
        // NUL is wrong in the data: the server takes it in no encoding.
        sqlx::Error::Database(error)
            if error.code().as_deref() == Some(NOT_IN_REPERTOIRE) && error.message().ends_with("0x00") =>
        {
            FailureKind::Refused
        }
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
    } else if is_among(OBSTRUCTED) {
        FailureKind::Obstructed
    } else {
        FailureKind::Refused
    }
}

/// Whether waiting can help.
pub fn is_temporary(error: &sqlx::Error) -> bool {
    matches!(kind(error), FailureKind::NotApplied | FailureKind::InDoubt)
}

/// Whether the server refused a value of a row or of the statement (class 22), and not because of its encoding.
pub fn is_about_data(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().is_some_and(|code| code.starts_with("22")))
}

pub fn failed(operation: &str, error: &sqlx::Error) -> Failure {
    Failure::new(kind(error), operation, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_whether_the_server_can_have_done_the_work() {
        for code in ["57P03", "53300", "40001", "40P01", "25006"] {
            assert_eq!(kind_of_code(code), FailureKind::NotApplied, "{code}");
        }
        for code in ["08006", "53100", "57P01", "57014", "25P03", "58030", "40003", "55P03", "0A000", "28P01"] {
            assert_eq!(kind_of_code(code), FailureKind::InDoubt, "{code}");
        }
        for code in ["42501", "42P01", "42883", "3F000", "P0001", "22P05", "26000"] {
            assert_eq!(kind_of_code(code), FailureKind::Obstructed, "{code}");
        }
        for code in ["", "23505", "22023", "54000"] {
            assert_eq!(kind_of_code(code), FailureKind::Refused, "{code}");
        }
    }
}
