//! Queries for the starts that no turn has read yet. They read the queue, so that a start needs no further row.

use rusqlite::Connection;

use crate::error::Result;
use crate::sqlite::read::query::{column, one, unsigned};
use crate::start::WaitingStart;

const OPERATION: &str = "get_instance_info";

/// The query for the instances whose starts wait, with another condition on the instance `i` or the message `m`.
macro_rules! waiting {
    ($answer:literal, $condition:literal) => {
        concat!(
            "SELECT ",
            $answer,
            " FROM messages m JOIN instances i ON i.number = m.instance WHERE i.orchestration IS NULL \
              AND i.starting IS NOT NULL AND m.data LIKE '{\"StartOrchestration\":%'",
            $condition
        )
    };
}

/// The start of an instance that no turn has read yet.
pub fn waiting_start(connection: &Connection, id: &str) -> Result<Option<WaitingStart>> {
    // The messages have no index by instance, so the query asks the instance first.
    const IS_WAITING: &str =
        "SELECT number, created_ms FROM instances WHERE id = ? AND orchestration IS NULL AND starting IS NOT NULL";
    const MESSAGE: &str = "SELECT data, visible_ms FROM messages WHERE instance = ? AND data LIKE '{\"StartOrchestration\":%' \
         ORDER BY sequence LIMIT 1";
    let instance = one(connection, OPERATION, IS_WAITING, [id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some((number, created_ms)): Option<(i64, i64)> = instance else { return Ok(None) };
    let message: Option<(String, u64)> =
        one(connection, OPERATION, MESSAGE, [number], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(message
        .and_then(|(data, due_ms)| WaitingStart::of(serde_json::from_str(&data).ok()?, unsigned(created_ms), due_ms)))
}

/// The ids of the instances whose starts no turn has read yet.
pub fn waiting_starts(connection: &Connection) -> Result<Vec<String>> {
    column(connection, "list_instances", waiting!("DISTINCT i.id", ""), [])
}

/// How many instances have starts that no turn has read yet.
pub fn count_waiting_starts(connection: &Connection) -> Result<u64> {
    let sql = waiting!("count(DISTINCT i.number)", "");
    let count = one(connection, "get_system_metrics", sql, [], |row| row.get::<_, i64>(0))?;
    Ok(count.map_or(0, unsigned))
}

/// The sub-orchestrations of `parents` whose starts no turn has read yet.
pub fn waiting_children(connection: &Connection, parents: &[String]) -> Result<Vec<String>> {
    let sql = waiting!(
        "DISTINCT i.id",
        " AND json_extract(m.data, '$.StartOrchestration.parent_instance') IN (SELECT value FROM json_each(?1))"
    );
    column(connection, "list_children", sql, [serde_json::Value::from(parents.to_vec()).to_string()])
}
