//! The changes of one turn, and the statements that write them.

use std::collections::HashSet;

use rusqlite::{Connection, params};

use crate::clock::now_ms;
use crate::history::is_last;
use crate::sqlite::owner::disk::rows::{ActivityRow, MessageRow, insert_activity, insert_events, insert_message, run};
use crate::sqlite::owner::disk::totals::Totals;
use crate::sqlite::owner::memory::ids::{Number, Sequence, Version};
use crate::sqlite::read::signed;

pub enum KvChange {
    Set { key: String, value: String, updated_ms: u64 },
    Clear { key: String },
    ClearAll,
}

/// A new custom status; `None` for a reset.
pub struct CustomStatus(pub Option<String>);

/// The changes of one turn to its instance.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each tells whether the turn changes one table")]
pub struct TurnRow {
    pub number: Number,
    pub execution: u64,
    /// The orchestration and its version, in the turn that records them.
    pub recorded: Option<(String, String)>,
    pub parent: Option<String>,
    /// Whether this is the first turn of its execution.
    pub is_first_turn: bool,
    pub pinned: Option<Version>,
    pub status: Option<String>,
    pub output: Option<String>,
    /// The time of the turn, from the timestamps of its events.
    pub time_ms: u64,
    pub events: Vec<(u64, String)>,
    /// The last custom status that the turn has set.
    pub custom_status: Option<CustomStatus>,
    pub kv: Vec<KvChange>,
    /// The execution has ended, so the next one must see its changes of values.
    pub merges_kv: bool,
    pub consumed: Vec<Sequence>,
    pub cancelled: Vec<Sequence>,
    pub messages: Vec<MessageRow>,
    pub activities: Vec<ActivityRow>,
    /// The totals count the instance from this turn on.
    pub is_new_instance: bool,
    pub clears_mismatch: bool,
}

impl TurnRow {
    pub fn apply(
        &self,
        connection: &Connection,
        totals: &mut Totals,
        deleted: &HashSet<Number>,
    ) -> rusqlite::Result<()> {
        let Self { number, execution, .. } = self;
        let execution = signed(*execution);
        for sequence in &self.consumed {
            run!(connection, "DELETE FROM messages WHERE sequence = ?1", sequence);
        }
        let status = self.status.as_deref();
        let now = signed(self.time_ms);
        let has_ended = status.is_some_and(is_last);
        if let Some((orchestration, version)) = &self.recorded {
            run!(
                connection,
                "UPDATE instances SET orchestration = ?2, version = ?3, starting = NULL, \
                 execution = max(execution, ?4), parent = iif(orchestration IS NULL, ?5, parent), completed_ms = ?6 WHERE number = ?1",
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
        } else if self.is_first_turn || has_ended {
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
        totals.events += signed(self.events.len() as u64);
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
        if self.is_first_turn {
            let (major, minor, patch) = self.pinned.map_or((None, None, None), |(major, minor, patch)| {
                (Some(signed(major)), Some(signed(minor)), Some(signed(patch)))
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
                signed(major),
                signed(minor),
                signed(patch)
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
                "UPDATE executions SET status = ?3, output = ?4, completed_ms = ?5 \
                 WHERE instance = ?1 AND execution = ?2",
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
                        signed(*updated_ms)
                    );
                }
                KvChange::Clear { key } => {
                    run!(
                        connection,
                        "INSERT OR REPLACE INTO kv_changes VALUES (?1, ?2, NULL, ?3)",
                        number,
                        key,
                        signed(now_ms())
                    );
                }
                KvChange::ClearAll => {
                    run!(connection, "UPDATE kv_changes SET value = NULL WHERE instance = ?1", number);
                    run!(
                        connection,
                        "INSERT OR REPLACE INTO kv_changes SELECT instance, key, NULL, ?2 FROM kv WHERE instance = ?1",
                        number,
                        signed(now_ms())
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
