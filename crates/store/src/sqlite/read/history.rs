//! Queries for the histories of instances.

use duroxide::{Event, INITIAL_EXECUTION_ID};
use rusqlite::{Connection, Params};

use crate::error::Result;
use crate::sqlite::read::query::{failed, signed, unreadable};

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
