//! The changes that operations prepare for the writer thread, and the statements that write them.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::sqlite::owner::disk::rows::{ActivityRow, MessageRow, insert_activity, insert_events, insert_message, run};
use crate::sqlite::owner::disk::totals::Totals;
use crate::sqlite::owner::disk::turn_row::TurnRow;
use crate::sqlite::owner::memory::ids::{Number, Sequence};
use crate::sqlite::read::signed;

pub enum Change {
    Instance {
        number: Number,
        id: Arc<str>,
        starting: Option<Arc<str>>,
        created_ms: u64,
    },
    Starting {
        number: Number,
        orchestration: Arc<str>,
    },
    /// An instance that has ended begins a new execution.
    Restart {
        number: Number,
        execution: u64,
        restarted_ms: u64,
    },
    Message(MessageRow),
    Activity(ActivityRow),
    Turn(Box<TurnRow>),
    Events {
        number: Number,
        execution: u64,
        events: Vec<(u64, String)>,
    },
    ActivityEnded(Sequence),
    MessagesDropped(Vec<Sequence>),
    MessageAttempts {
        sequence: Sequence,
        attempts: u32,
    },
    ActivityAttempts {
        sequence: Sequence,
        attempts: u32,
    },
    InstanceDropped(Number),
    Mismatch {
        number: Number,
        report: String,
    },
    InboxPosition {
        inbox: String,
        position: i64,
    },
}

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
            Self::Restart { number, .. } if deleted.contains(number) => {}
            Self::Restart { number, execution, restarted_ms } => {
                let before = restart(connection, *number, signed(*execution), signed(*restarted_ms))?;
                totals.executions += 1;
                totals.count(&before, -1);
                totals.count("Running", 1);
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

/// Begins another execution, and returns the status of the one before. Its custom status, its keys and its mismatch belong
/// to its history.
fn restart(connection: &Connection, number: Number, execution: i64, restarted_ms: i64) -> rusqlite::Result<String> {
    let before = connection
        .prepare_cached("SELECT status FROM executions WHERE instance = ?1 AND execution = ?2 - 1")?
        .query_row(params![number, execution], |row| row.get(0))
        .optional()?
        .unwrap_or_default();
    run!(
        connection,
        "UPDATE instances SET execution = ?2, completed_ms = NULL, starting = orchestration, custom_status = NULL, \
         custom_status_version = custom_status_version + 1 WHERE number = ?1",
        number,
        execution
    );
    run!(
        connection,
        "INSERT INTO executions (instance, execution, status, started_ms) VALUES (?1, ?2, 'Running', ?3)",
        number,
        execution,
        restarted_ms
    );
    run!(connection, "DELETE FROM kv WHERE instance = ?1", number);
    run!(connection, "DELETE FROM mismatches WHERE instance = ?1", number);
    Ok(before)
}
