//! The queries on a store's file. Each answer comes from one statement, so that it shows the store at one moment.
//!
//! The owner and the clients use the same functions, the owner also inside its transactions. An instance exists for
//! readers once its first turn is recorded. Before that, its row stands for a waiting start or early messages.
//!
//! This module has status, histories, mismatches and backups. [`admin`] has lists, counts and the selection for bulk
//! operations, [`values`] key-value pairs and sizes, and [`pool`] the connections that only read.

pub mod admin;
pub mod pool;
#[cfg(test)]
pub mod tests;
pub mod values;

use std::fs::File;
use std::path::Path;

use duroxide::{Event, INITIAL_EXECUTION_ID};
use rusqlite::types::FromSql;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Params, Row};

use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::sqlite::file::paths::sync_directory;
use crate::types::InstanceState;

pub use crate::sqlite::read::admin::{
    Page, children, execution_info, executions, instance_info, latest_execution, list, list_by_status, parent,
    prunable_executions, queue_depths, system_metrics, to_delete, to_prune, tree,
};
pub use crate::sqlite::read::pool::{Readers, open};
pub use crate::sqlite::read::values::{custom_status, instance_stats, kv_all, kv_snapshot, kv_value};

/// The state of an instance, as far as a wait needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRow {
    pub number: i64,
    /// `None` until the first turn is recorded.
    pub orchestration: Option<String>,
    pub version: Option<String>,
    /// The orchestration of a start that still waits for its first turn.
    pub starting: Option<String>,
    pub execution: u64,
    /// The status of the current execution; `None` until its first turn is recorded.
    pub status: Option<String>,
    pub output: Option<String>,
    pub custom_status: Option<String>,
    pub custom_status_version: u64,
}

/// Status, output and custom status at one moment.
pub fn status(connection: &Connection, id: &str) -> Result<Option<StatusRow>> {
    const STATUS: &str = "SELECT i.number, i.orchestration, i.version, i.starting, i.execution, e.status, e.output, \
         i.custom_status, i.custom_status_version \
         FROM instances i LEFT JOIN executions e ON e.instance = i.number AND e.execution = i.execution WHERE i.id = ?";
    one(connection, "get_instance_info", STATUS, [id], |row| {
        Ok(StatusRow {
            number: row.get(0)?,
            orchestration: row.get(1)?,
            version: row.get(2)?,
            starting: row.get(3)?,
            execution: count(row, 4)?,
            status: row.get(5)?,
            output: row.get(6)?,
            custom_status: row.get(7)?,
            custom_status_version: count(row, 8)?,
        })
    })
}

/// The state of an instance, as the rest of the package reports it.
pub fn instance_state(connection: &Connection, id: &str) -> Result<Option<InstanceState>> {
    let Some(row) = status(connection, id)? else { return Ok(None) };
    Ok(row.orchestration.is_some().then(|| InstanceState {
        status: row.status.unwrap_or_else(|| "Running".to_owned()),
        output: row.output,
        custom_status: row.custom_status,
        custom_status_version: row.custom_status_version,
    }))
}

/// Copies the committed state into a new file.
pub fn back_up(connection: &Connection, target: &Path) -> Result<()> {
    const OPERATION: &str = "backup";
    let refused = |reason: String| Failure::refused(OPERATION, reason);
    let shown = target.display();
    let Some(name) = target.to_str() else {
        return Err(refused(format!("'{shown}' is not valid unicode; choose another name")));
    };
    if target.exists() {
        return Err(refused(format!("'{shown}' exists already; give the path of a new file")));
    }
    // A reader's connection refuses all writes. This connection must write the copy, and runs no other statement at
    // that time.
    let set_query_only = |on: bool| connection.pragma_update(None, "query_only", on);
    let was_on = connection.pragma_query_value(None, "query_only", |row| row.get(0)).map_err(failed(OPERATION))?;
    set_query_only(false).map_err(failed(OPERATION))?;
    let copied = connection.prepare("VACUUM INTO ?").and_then(|mut copy| copy.execute([name]));
    set_query_only(was_on).map_err(failed(OPERATION))?;
    let synced = copied.map_err(failed(OPERATION)).and_then(|_| {
        let file = File::open(target).and_then(|file| file.sync_all()).and_then(|()| sync_directory(target));
        file.map_err(|error| refused(format!("'{shown}' could not be written: {error}")))
    });
    if synced.is_err() {
        // A part of a copy must not be taken for a backup.
        std::fs::remove_file(target).ok();
    }
    synced
}

/// The events of one execution, for the owner, which knows the number of the instance.
pub fn history(connection: &Connection, number: i64, execution: u64) -> Result<Vec<Event>> {
    const HISTORY: &str = "SELECT event, data FROM events WHERE instance = ? AND execution = ? ORDER BY event";
    events(connection, "read", HISTORY, (number, signed(execution)))
}

/// The events of the latest execution; an empty list for an unknown instance.
pub fn read(connection: &Connection, id: &str) -> Result<Vec<Event>> {
    const READ: &str = "SELECT v.event, v.data FROM instances i JOIN events v ON v.instance = i.number \
         AND v.execution = (SELECT coalesce(max(execution), ?2) FROM executions WHERE instance = i.number) \
         WHERE i.id = ?1 ORDER BY v.event";
    events(connection, "read", READ, (id, signed(INITIAL_EXECUTION_ID)))
}

/// The events of one execution; an empty list for an unknown execution.
pub fn read_execution(connection: &Connection, id: &str, execution: u64) -> Result<Vec<Event>> {
    const READ: &str = "SELECT v.event, v.data FROM instances i JOIN events v ON v.instance = i.number \
         AND v.execution = ?2 WHERE i.id = ?1 ORDER BY v.event";
    events(connection, "read_with_execution", READ, (id, signed(execution)))
}

/// The mismatch report of an instance that waits for code that can run it.
pub fn mismatch(connection: &Connection, id: &str) -> Result<Option<String>> {
    const MISMATCH: &str = "SELECT m.report FROM instances i JOIN mismatches m ON m.instance = i.number WHERE i.id = ?";
    one(connection, "get_instance_info", MISMATCH, [id], |row| row.get(0))
}

/// The position up to which the store has carried out the inbox of that name.
pub fn inbox_position(connection: &Connection, inbox: &str) -> Result<i64> {
    const POSITION: &str = "SELECT position FROM inboxes WHERE inbox = ?";
    Ok(one(connection, "read_inbox_position", POSITION, [inbox], |row| row.get(0))?.unwrap_or(0))
}

fn events(
    connection: &Connection,
    operation: &'static str,
    sql: &'static str,
    parameters: impl Params,
) -> Result<Vec<Event>> {
    let failed = failed(operation);
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = statement.query(parameters).map_err(failed)?;
    let mut events = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let number: i64 = row.get(0).map_err(failed)?;
        let undecodable = |error: String| unreadable(operation, number, &error);
        // The decoder reads the text in SQLite's page without a copy, since it creates new strings anyway.
        let data = row.get_ref(1).map_err(failed)?.as_str().map_err(|error| undecodable(error.to_string()))?;
        events.push(serde_json::from_str(data).map_err(|error| undecodable(error.to_string()))?);
    }
    Ok(events)
}

/// The first row of a statement, if there is one.
fn one<T>(
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
fn column<T: FromSql>(
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

fn not_found(operation: &'static str, id: &str) -> Failure {
    Failure::not_found(operation, format!("Instance {id} not found"))
}

/// An event that cannot be decoded, in the words of the engine's bundled store.
fn unreadable(operation: &'static str, event: i64, error: &str) -> Failure {
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

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
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
