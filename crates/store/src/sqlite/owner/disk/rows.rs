//! The rows of messages, activities and events, and the statements that insert them.

use rusqlite::{Connection, params};

use crate::sqlite::owner::memory::ids::{Number, Sequence};
use crate::sqlite::read::signed;

pub struct MessageRow {
    pub sequence: Sequence,
    pub number: Number,
    pub visible_ms: u64,
    pub data: String,
}

pub struct ActivityRow {
    pub sequence: Sequence,
    pub number: Number,
    pub attempts: u32,
    pub data: String,
}

/// Executes a prepared statement once.
macro_rules! run {
    ($connection:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $connection.prepare_cached($sql)?.execute(params![$($value),*])?
    };
}
pub(crate) use run;

pub fn insert_message(connection: &Connection, row: &MessageRow) -> rusqlite::Result<()> {
    run!(
        connection,
        "INSERT INTO messages (sequence, instance, visible_ms, data) VALUES (?1, ?2, ?3, ?4)",
        row.sequence,
        row.number,
        signed(row.visible_ms),
        row.data
    );
    Ok(())
}

pub fn insert_activity(connection: &Connection, row: &ActivityRow) -> rusqlite::Result<()> {
    run!(
        connection,
        "INSERT INTO activities (sequence, instance, visible_ms, attempts, data) VALUES (?1, ?2, 0, ?3, ?4)",
        row.sequence,
        row.number,
        row.attempts,
        row.data
    );
    Ok(())
}

pub fn insert_events(
    connection: &Connection,
    number: Number,
    execution: u64,
    events: &[(u64, String)],
) -> rusqlite::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut statement = connection.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4)")?;
    for (event, data) in events {
        statement.execute(params![number, signed(execution), signed(*event), data])?;
    }
    Ok(())
}
