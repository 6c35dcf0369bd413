//! One query: its rows, its failures, and the numbers in its columns.

use std::path::Path;

use rusqlite::types::FromSql;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Params, Row};

use crate::error::Result;
use crate::failure::{Failure, FailureKind};

/// The first row of a statement, if there is one.
pub fn one<T>(
    connection: &Connection,
    operation: &'static str,
    sql: &'static str,
    parameters: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>> {
    let failed = failed(operation);
    connection.prepare_cached(sql).map_err(failed)?.query_row(parameters, read).optional().map_err(failed)
}

/// The first column of all rows.
pub fn column<T: FromSql>(
    connection: &Connection,
    operation: &'static str,
    sql: &'static str,
    parameters: impl Params,
) -> Result<Vec<T>> {
    let failed = failed(operation);
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let rows = statement.query_map(parameters, |row| row.get(0)).map_err(failed)?;
    rows.collect::<Result<_, _>>().map_err(failed)
}

pub fn not_found(operation: &'static str, id: &str) -> Failure {
    Failure::not_found(operation, format!("Instance {id} not found"))
}

/// An event that cannot be decoded, in the words of the engine's bundled store.
pub fn unreadable(operation: &'static str, event: i64, error: &str) -> Failure {
    Failure::unreadable(operation, format!("Failed to deserialize event {event}: {error}"))
}

/// The failure for an error of SQLite, by its result code.
pub fn failed(operation: &'static str) -> impl Fn(rusqlite::Error) -> Failure + Copy {
    move |error| {
        let kind = match error.sqlite_error_code() {
            // Another process holds the lock for a moment.
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                return Failure::not_applied(operation, error.to_string());
            }
            // A disk may recover.
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => FailureKind::InDoubt,
            _ => FailureKind::Unusable,
        };
        Failure::new(kind, operation, format!("SQLite says: {error}"))
    }
}

/// Adds the name of the file to a failure of the file. Other failures stay as they are.
pub fn naming(path: &Path, failure: Failure) -> Failure {
    if matches!(failure.kind, FailureKind::InDoubt | FailureKind::Unusable) {
        return Failure { message: format!("'{}' cannot be read; {}", path.display(), failure.message), ..failure };
    }
    failure
}

pub fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get(column).map(unsigned)
}

/// Converts an integer of SQLite, which is signed, into a count or a time, which is never negative.
pub fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Converts a count or a time into an integer of SQLite. Times beyond its range become the largest one, and stay
/// comparable.
pub fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
