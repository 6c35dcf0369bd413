//! The texts of other programs that control flow has to read, because nothing else tells what they tell. All of them
//! stand here.
//!
//! `duroxide-pg` turns the errors of the server into texts, without their codes. `PgBouncer`, OpenSSL and the client
//! library `sqlx` give no codes for what can be wrong with a connection. The texts of the two packages are known from
//! the versions in `KNOWN_FROM`: a test fails after an upgrade until the texts were compared again. The server's own
//! texts are matched as they read with `lc_messages` in English. In another language only the classification of
//! `duroxide-pg` remains, which knows deadlocks and changed plans.

use duroxide::providers::ProviderError;

use crate::failure::{Failure, FailureKind};

/// The packages whose texts stand in this file, with the versions that they were read from.
#[cfg(test)]
const KNOWN_FROM: [(&str, &str); 2] = [("duroxide-pg", "0.1.38"), ("sqlx", "0.8.6")];

/// What `duroxide-pg` puts before the server's message where it does not classify the error.
const BY_SERVER: &str = "Database error: error returned from database: ";

/// Refused before anything ran: repeating it cannot do the work twice.
const NOT_APPLIED: &[&str] = &[
    "pool timed out",
    "connection refused",
    "the database system is", // 57P03: starting up, shutting down, in recovery
    "cannot connect now",
    "too many clients", // 53300
    "too many connections",
    "remaining connection slots are reserved", // 53300
    "could not serialize access",              // 40001
    "deadlock detected",                       // 40P01
    "in a read-only transaction",              // 25006
    "during recovery",                         // 25006
];

/// Broken off: the server may have done the work, or not.
const IN_DOUBT: &[&str] = &[
    "terminating connection", // 57P01, 57P02, 25P03
    "server closed the connection",
    "connection reset",
    "connection error",
    "connection to server",
    "connection pool error",
    "connection does not exist", // 08003
    "connection failure",        // 08006
    "broken pipe",
    "unexpected end of file",
    "expected to read",
    "error communicating with",
    "i/o error",
    "timed out",
    "timeout",
    "canceling statement due to",
    "encountered unexpected or invalid data", // a protocol error of a connection that was cut
];

/// The failure that an error of `duroxide-pg` stands for.
pub fn of_base_provider(error: ProviderError) -> Failure {
    Failure { kind: kind(&error), operation: error.operation, message: error.message }
}

fn kind(error: &ProviderError) -> FailureKind {
    let message = error.message.as_str();
    if !error.retryable {
        let by_server = message.strip_prefix(BY_SERVER).unwrap_or_default();
        if message.starts_with("Instance not found")
            || message.starts_with("Execution not found")
            || by_server.starts_with("Instance ") && by_server.ends_with(" not found")
        {
            return FailureKind::NotFound;
        }
        if message.ends_with(" is Running. Use force=true to delete.") {
            return FailureKind::StillRunning;
        }
        if message.starts_with("Failed to deserialize event") {
            return FailureKind::Unreadable;
        }
    }
    let message = message.to_lowercase();
    let names = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    if names(NOT_APPLIED) {
        FailureKind::NotApplied
    } else if error.retryable || names(IN_DOUBT) {
        FailureKind::InDoubt
    } else {
        FailureKind::Refused
    }
}

/// Whether `duroxide-pg` refused a schema that a newer version of it has changed.
pub fn is_ahead_of_the_code(text: &str) -> bool {
    text.contains("ahead of the code")
}

/// Whether `duroxide-pg` found no store in a schema.
pub fn has_no_migrations(text: &str) -> bool {
    text.contains("migrations not initialized")
}

/// Whether `duroxide-pg` refused what it found in this schema.
pub fn is_about_schema(text: &str, schema: &str) -> bool {
    text.contains(&format!("schema {schema:?}"))
}

/// What to do about an error of connecting, where its text has a known cause.
pub fn remedy_of_connecting(text: &str) -> Option<&'static str> {
    if text.contains("unsupported startup parameter") {
        // PgBouncer
        Some("this is PgBouncer, add ignore_startup_parameters = extra_float_digits to its settings")
    } else if text.contains("hostname mismatch") || text.contains("IP address mismatch") {
        // OpenSSL
        Some("connect by the name in the server's certificate, or set sslmode to 'verify-ca'")
    } else if text.contains("certificate verify failed") {
        // OpenSSL
        Some("set ssl_root_cert to the certificates of its authority")
    } else if text.contains("server does not support TLS") {
        // The client library
        Some("switch TLS on there, or set sslmode to 'prefer'")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
