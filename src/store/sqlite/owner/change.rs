//! What is written to the file: changes as their callers have prepared them, and the statements that make them so.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::state::{Number, Sequence, Version};
use crate::store::clock::now_ms;
use crate::store::sqlite::read::is_last;

pub(super) struct MessageRow {
    pub sequence: Sequence,
    pub number: Number,
    pub visible_ms: u64,
    pub data: String,
}

pub(super) struct ActivityRow {
    pub sequence: Sequence,
    pub number: Number,
    pub attempts: u32,
    pub data: String,
}

pub(super) enum KvChange {
    Set { key: String, value: String, updated_ms: u64 },
    Clear { key: String },
    ClearAll,
}

/// `None` when it was reset.
pub(super) struct CustomStatus(pub Option<String>);

/// What a turn has changed in its instance.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says of one table whether the turn concerns it")]
pub(super) struct TurnRow {
    pub number: Number,
    pub execution: u64,
    /// Orchestration and version, from the turn that records them.
    pub recorded: Option<(String, String)>,
    pub parent: Option<String>,
    /// It is the first turn of its execution.
    pub begins: bool,
    pub pinned: Option<Version>,
    pub status: Option<String>,
    pub output: Option<String>,
    /// Of the turn, as its events are stamped.
    pub time_ms: u64,
    pub events: Vec<(u64, String)>,
    /// The last of its custom statuses, if it set any.
    pub custom_status: Option<CustomStatus>,
    pub kv: Vec<KvChange>,
    /// The execution has ended, and what it changed is for the next one to see.
    pub merges_kv: bool,
    pub consumed: Vec<Sequence>,
    pub cancelled: Vec<Sequence>,
    pub messages: Vec<MessageRow>,
    pub activities: Vec<ActivityRow>,
    /// Counted for the first time with this turn.
    pub is_new_instance: bool,
    pub clears_mismatch: bool,
}

pub(super) enum Change {
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

/// What changed in the counts that are kept because counting takes too long.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub instances: i64,
    pub executions: i64,
    pub running: i64,
    pub completed: i64,
    pub failed: i64,
    pub events: i64,
}

impl Totals {
    /// Counts instances by what their current execution is.
    pub fn count(&mut self, status: &str, by: i64) {
        match status {
            "Running" => self.running += by,
            "Completed" => self.completed += by,
            "Failed" => self.failed += by,
            // Between two executions it counts among none of them.
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

/// SQLite's integers are signed; ids and times stay far below the difference.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// One execution of a prepared statement.
macro_rules! run {
    ($connection:expr, $sql:expr $(, $value:expr)* $(,)?) => {
        $connection.prepare_cached($sql)?.execute(params![$($value),*])?
    };
}

/// SQLite's own default.
const PAGE_BYTES: usize = 4096;

impl Change {
    /// About how many pages of the log it takes.
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

    /// What is left to do of an operation that is void: others count on the rows that it was to make for them.
    pub fn apply_void(&self, connection: &Connection, deleted: &HashSet<Number>) -> rusqlite::Result<()> {
        if let Self::Instance { number, id, created_ms, .. } = self
            && !deleted.contains(number)
        {
            insert_instance(connection, *number, id, None, *created_ms)?;
        }
        Ok(())
    }

    /// What is for an instance of `deleted` leaves nothing: its number may be another's one day.
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
                totals.events += integer(events.len() as u64);
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

impl TurnRow {
    fn apply(&self, connection: &Connection, totals: &mut Totals, deleted: &HashSet<Number>) -> rusqlite::Result<()> {
        let Self { number, execution, .. } = self;
        let execution = integer(*execution);
        for sequence in &self.consumed {
            run!(connection, "DELETE FROM messages WHERE sequence = ?1", sequence);
        }
        let status = self.status.as_deref();
        let now = integer(self.time_ms);
        let has_ended = status.is_some_and(is_last);
        if let Some((orchestration, version)) = &self.recorded {
            run!(
                connection,
                "UPDATE instances SET orchestration = ?2, version = ?3, starting = NULL, execution = max(execution, ?4), \
                 parent = iif(orchestration IS NULL, ?5, parent), completed_ms = ?6 WHERE number = ?1",
                number,
                orchestration,
                version,
                execution,
                self.parent,
                has_ended.then_some(now)
            );
            if self.is_new_instance {
                totals.instances += 1;
            }
        } else if self.begins || has_ended {
            run!(
                connection,
                "UPDATE instances SET execution = max(execution, ?2), completed_ms = ?3 WHERE number = ?1",
                number,
                execution,
                has_ended.then_some(now)
            );
        }
        self.apply_execution(connection, totals, execution, now)?;
        insert_events(connection, *number, self.execution, &self.events)?;
        totals.events += integer(self.events.len() as u64);
        if let Some(custom) = &self.custom_status {
            run!(
                connection,
                "UPDATE instances SET custom_status = ?2, custom_status_version = custom_status_version + 1 \
                 WHERE number = ?1",
                number,
                custom.0
            );
        }
        self.apply_kv(connection)?;
        for row in &self.activities {
            insert_activity(connection, row)?;
        }
        for sequence in &self.cancelled {
            run!(connection, "DELETE FROM activities WHERE sequence = ?1", sequence);
        }
        for row in self.messages.iter().filter(|row| !deleted.contains(&row.number)) {
            insert_message(connection, row)?;
        }
        if self.clears_mismatch {
            run!(connection, "DELETE FROM mismatches WHERE instance = ?1", number);
        }
        Ok(())
    }

    fn apply_execution(
        &self,
        connection: &Connection,
        totals: &mut Totals,
        execution: i64,
        now: i64,
    ) -> rusqlite::Result<()> {
        let number = self.number;
        let status = self.status.as_deref();
        if self.begins {
            let (major, minor, patch) = self.pinned.map_or((None, None, None), |(major, minor, patch)| {
                (Some(integer(major)), Some(integer(minor)), Some(integer(patch)))
            });
            let status = status.unwrap_or("Running");
            run!(
                connection,
                "INSERT INTO executions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                number,
                execution,
                status,
                self.output,
                now,
                self.status.as_ref().map(|_| now),
                major,
                minor,
                patch
            );
            totals.executions += 1;
            totals.count(status, 1);
            return Ok(());
        }
        if let Some((major, minor, patch)) = self.pinned {
            run!(
                connection,
                "UPDATE executions SET major = ?3, minor = ?4, patch = ?5 WHERE instance = ?1 AND execution = ?2",
                number,
                execution,
                integer(major),
                integer(minor),
                integer(patch)
            );
        }
        if let Some(status) = status {
            let before: Option<String> = {
                let mut statement = connection
                    .prepare_cached("SELECT status FROM executions WHERE instance = ?1 AND execution = ?2")?;
                let mut rows = statement.query(params![number, execution])?;
                rows.next()?.map(|row| row.get(0)).transpose()?
            };
            run!(
                connection,
                "UPDATE executions SET status = ?3, output = ?4, completed_ms = ?5 WHERE instance = ?1 AND execution = ?2",
                number,
                execution,
                status,
                self.output,
                now
            );
            if let Some(before) = before {
                totals.count(&before, -1);
                totals.count(status, 1);
            }
        }
        Ok(())
    }

    fn apply_kv(&self, connection: &Connection) -> rusqlite::Result<()> {
        let number = self.number;
        for change in &self.kv {
            match change {
                KvChange::Set { key, value, updated_ms } => {
                    run!(
                        connection,
                        "INSERT OR REPLACE INTO kv_changes VALUES (?1, ?2, ?3, ?4)",
                        number,
                        key,
                        value,
                        integer(*updated_ms)
                    );
                }
                KvChange::Clear { key } => {
                    run!(
                        connection,
                        "INSERT OR REPLACE INTO kv_changes VALUES (?1, ?2, NULL, ?3)",
                        number,
                        key,
                        integer(now_ms())
                    );
                }
                KvChange::ClearAll => {
                    run!(connection, "UPDATE kv_changes SET value = NULL WHERE instance = ?1", number);
                    run!(
                        connection,
                        "INSERT OR REPLACE INTO kv_changes SELECT instance, key, NULL, ?2 FROM kv WHERE instance = ?1",
                        number,
                        integer(now_ms())
                    );
                }
            }
        }
        if self.merges_kv {
            run!(
                connection,
                "DELETE FROM kv WHERE instance = ?1 AND key IN \
                 (SELECT key FROM kv_changes WHERE instance = ?1 AND value IS NULL)",
                number
            );
            run!(
                connection,
                "INSERT OR REPLACE INTO kv SELECT * FROM kv_changes WHERE instance = ?1 AND value IS NOT NULL",
                number
            );
            run!(connection, "DELETE FROM kv_changes WHERE instance = ?1", number);
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
        integer(created_ms),
        starting
    );
    Ok(())
}

fn insert_message(connection: &Connection, row: &MessageRow) -> rusqlite::Result<()> {
    run!(
        connection,
        "INSERT INTO messages (sequence, instance, visible_ms, data) VALUES (?1, ?2, ?3, ?4)",
        row.sequence,
        row.number,
        integer(row.visible_ms),
        row.data
    );
    Ok(())
}

fn insert_activity(connection: &Connection, row: &ActivityRow) -> rusqlite::Result<()> {
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

fn insert_events(
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
        statement.execute(params![number, integer(execution), integer(*event), data])?;
    }
    Ok(())
}
