//! Queries for the status of one instance, its mismatch report, and the position of an inbox.

use std::collections::HashSet;

use rusqlite::Connection;

use crate::error::Result;
use crate::history::is_last;
use crate::sqlite::read::query::{count, one};
use crate::types::InstanceState;

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

/// Which of these instances have ended.
pub fn ended(connection: &Connection, ids: &[String]) -> Result<HashSet<String>> {
    let mut ended = HashSet::new();
    for id in ids {
        const STATUS: &str = "SELECT e.status FROM instances i \
             JOIN executions e ON e.instance = i.number AND e.execution = i.execution WHERE i.id = ?";
        let status: Option<String> = one(connection, "get_instance_info", STATUS, [id], |row| row.get(0))?;
        if status.as_deref().is_some_and(is_last) {
            ended.insert(id.clone());
        }
    }
    Ok(ended)
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
