//! The changes that operations prepare for the writer thread, and the statements that write them.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{Connection, params};

pub use crate::sqlite::owner::disk::turn_row::{CustomStatus, KvChange, TurnRow};
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

pub enum Change {
    Instance { number: Number, id: Arc<str>, starting: Option<Arc<str>>, created_ms: u64 },
    Starting { number: Number, orchestration: Arc<str> },
    Message(MessageRow),
    Activity(ActivityRow),
    Turn(Box<TurnRow>),
    Events { number: Number, execution: u64, events: Vec<(u64, String)> },
    ActivityEnded(Sequence),
    MessagesDropped(Vec<Sequence>),
    MessageAttempts { sequence: Sequence, attempts: u32 },
    ActivityAttempts { sequence: Sequence, attempts: u32 },
    InstanceDropped(Number),
    Mismatch { number: Number, report: String },
    InboxPosition { inbox: String, position: i64 },
}

/// Differences for the table of totals, which exists because counting a large table takes too long.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub instances: i64,
    pub executions: i64,
    pub running: i64,
    pub completed: i64,
    pub failed: i64,
    pub events: i64,
}

impl Totals {
    /// Counts instances by the status of their current execution.
    pub fn count(&mut self, status: &str, by: i64) {
        match status {
            "Running" => self.running += by,
            "Completed" => self.completed += by,
            "Failed" => self.failed += by,
            // Between two executions, an instance has none of these states.
            _ => {}
        }
    }

    pub fn save(&self, connection: &Connection) -> rusqlite::Result<()> {
        let counts = [
            ("instances", self.instances),
            ("executions", self.executions),
            ("running", self.running),
            ("completed", self.completed),
            ("failed", self.failed),
            ("events", self.events),
        ];
        let mut statement = connection.prepare_cached("UPDATE totals SET value = value + ?2 WHERE name = ?1")?;
        for (name, by) in counts.into_iter().filter(|(_, by)| *by != 0) {
            statement.execute(params![name, by])?;
        }
        Ok(())
    }
}

/// Executes a prepared statement once.
macro_rules! run {
    ($connection:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $connection.prepare_cached($sql)?.execute(params![$($value),*])?
    };
}
pub(crate) use run;

/// The default size of a page in SQLite.
const PAGE_BYTES: usize = 4096;

impl Change {
    /// The approximate number of pages that the change takes in the log.
    pub fn pages(&self) -> usize {
        let bytes = match self {
            Self::Message(row) => row.data.len(),
            Self::Activity(row) => row.data.len(),
            Self::Turn(turn) => {
                let events = turn.events.iter().map(|(_, data)| data.len());
                let messages = turn.messages.iter().map(|row| row.data.len());
                let activities = turn.activities.iter().map(|row| row.data.len());
                events.chain(messages).chain(activities).sum()
            }
            Self::Events { events, .. } => events.iter().map(|(_, data)| data.len()).sum(),
            _ => 0,
        };
        1 + bytes / PAGE_BYTES
    }

    /// Applies the part of a void operation that other operations need: the rows of other instances.
    pub fn apply_void(&self, connection: &Connection, deleted: &HashSet<Number>) -> rusqlite::Result<()> {
        if let Self::Instance { number, id, created_ms, .. } = self
            && !deleted.contains(number)
        {
            insert_instance(connection, *number, id, None, *created_ms)?;
        }
        Ok(())
    }

    /// Writes the change. It writes no message for an instance in `deleted`, since a later instance may get the same
    /// number.
    pub fn apply(
        &self,
        connection: &Connection,
        totals: &mut Totals,
        deleted: &HashSet<Number>,
    ) -> rusqlite::Result<()> {
        match self {
            Self::Instance { number, id, starting, created_ms } => {
                insert_instance(connection, *number, id, starting.as_deref(), *created_ms)?;
            }
            Self::Message(row) if deleted.contains(&row.number) => {}
            Self::Starting { number, orchestration } => {
                run!(connection, "UPDATE instances SET starting = ?2 WHERE number = ?1", number, &**orchestration);
            }
            Self::Message(row) => insert_message(connection, row)?,
            Self::Activity(row) => insert_activity(connection, row)?,
            Self::Turn(turn) => turn.apply(connection, totals, deleted)?,
            Self::Events { number, execution, events } => {
                insert_events(connection, *number, *execution, events)?;
                totals.events += signed(events.len() as u64);
            }
            Self::ActivityEnded(sequence) => {
                run!(connection, "DELETE FROM activities WHERE sequence = ?1", sequence);
            }
            Self::MessagesDropped(sequences) => {
                for sequence in sequences {
                    run!(connection, "DELETE FROM messages WHERE sequence = ?1", sequence);
                }
            }
            Self::MessageAttempts { sequence, attempts } => {
                run!(connection, "UPDATE messages SET attempts = ?2 WHERE sequence = ?1", sequence, attempts);
            }
            Self::ActivityAttempts { sequence, attempts } => {
                run!(connection, "UPDATE activities SET attempts = ?2 WHERE sequence = ?1", sequence, attempts);
            }
            Self::InstanceDropped(number) => {
                run!(connection, "DELETE FROM instances WHERE number = ?1 AND orchestration IS NULL", number);
            }
            Self::Mismatch { number, report } => {
                run!(connection, "INSERT OR REPLACE INTO mismatches VALUES (?1, ?2)", number, report);
            }
            Self::InboxPosition { inbox, position } => {
                run!(connection, "INSERT OR REPLACE INTO inboxes VALUES (?1, ?2)", inbox, position);
            }
        }
        Ok(())
    }
}

fn insert_instance(
    connection: &Connection,
    number: Number,
    id: &str,
    starting: Option<&str>,
    created_ms: u64,
) -> rusqlite::Result<()> {
    run!(
        connection,
        "INSERT INTO instances (number, id, created_ms, starting) VALUES (?1, ?2, ?3, ?4)",
        number,
        id,
        signed(created_ms),
        starting
    );
    Ok(())
}

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
