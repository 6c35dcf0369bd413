//! The records of instances in the file, and their waiting messages and activities, as the memory needs them.

use duroxide::providers::WorkItem;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::clock::now_ms;
use crate::policy::StorePolicy;
use crate::sqlite::owner::memory::activity_queue::Activity;
use crate::sqlite::owner::memory::due_item::DueItem;
use crate::sqlite::owner::memory::ids::{Number, Sequence, Version};
use crate::sqlite::owner::memory::instance::{Message, RecordedInstance};
use crate::sqlite::owner::memory::state::OwnerState;
use crate::start::End;

/// The query for the records of the instances that fulfil a condition.
macro_rules! records_where {
    ($condition:literal) => {
        concat!(
            "SELECT i.number, i.id, i.orchestration, i.version, i.starting, i.execution, \
             iif(i.completed_ms IS NULL, NULL, iif(e.status = 'Failed', 'Failed', 'Completed')), \
             coalesce(e.execution, 0), e.major, e.minor, e.patch, \
             EXISTS (SELECT 1 FROM kv WHERE kv.instance = i.number) \
             OR EXISTS (SELECT 1 FROM kv_changes WHERE kv_changes.instance = i.number), \
             EXISTS (SELECT 1 FROM mismatches WHERE mismatches.instance = i.number) \
             FROM instances i LEFT JOIN executions e ON e.instance = i.number AND e.execution = i.execution WHERE ",
            $condition
        )
    };
}

const WAITING: &str =
    records_where!("i.number IN (SELECT instance FROM messages UNION SELECT instance FROM activities)");
const BY_ID: &str = records_where!("i.id = ?1");

fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<std::sync::Arc<str>>> {
    row.get::<_, Option<String>>(column).map(|text| text.map(Into::into))
}

fn record(row: &Row<'_>) -> rusqlite::Result<(Number, String, RecordedInstance)> {
    let pinned: Option<Version> = match (row.get(8)?, row.get(9)?, row.get(10)?) {
        (Some(major), Some(minor), Some(patch)) => Some((major, minor, patch)),
        _ => None,
    };
    let record = RecordedInstance {
        orchestration: text(row, 2)?,
        version: text(row, 3)?,
        starting: text(row, 4)?,
        execution: row.get(5)?,
        recorded_execution: row.get(7)?,
        pinned,
        end: row.get::<_, Option<String>>(6)?.as_deref().and_then(End::of),
        has_kv: row.get(11)?,
        has_mismatch: row.get(12)?,
    };
    Ok((row.get(0)?, row.get(1)?, record))
}

fn undecodable(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

/// Loads all instances with waiting messages or activities.
pub fn waiting_work(connection: &Connection, policy: StorePolicy) -> rusqlite::Result<OwnerState> {
    let number: Number =
        connection.query_row("SELECT coalesce(max(number), 0) FROM instances", [], |row| row.get(0))?;
    let sequence: Sequence = connection.query_row(
        "SELECT max(coalesce((SELECT max(sequence) FROM messages), 0), \
         coalesce((SELECT max(sequence) FROM activities), 0))",
        [],
        |row| row.get(0),
    )?;
    let mut state = OwnerState::new(number, sequence, policy);
    let mut statement = connection.prepare(WAITING)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (number, id, record) = record(row)?;
        state.insert(number, &id);
        if let Some(instance) = state.get(number) {
            instance.set_record(record);
        }
    }
    load_messages(connection, &mut state)?;
    load_activities(connection, &mut state)?;
    Ok(state)
}

fn load_messages(connection: &Connection, state: &mut OwnerState) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare("SELECT sequence, instance, visible_ms, attempts, data FROM messages ORDER BY sequence")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some(waiting) = waiting_row(row, "messages") else { continue };
        let WaitingRow { sequence, instance, visible_ms, attempts, item } = waiting;
        state.push(instance, Message { sequence, item: Box::new(item), attempts, is_loaded: true }, visible_ms);
    }
    Ok(())
}

fn load_activities(connection: &Connection, state: &mut OwnerState) -> rusqlite::Result<()> {
    let now = now_ms();
    let mut statement = connection
        .prepare("SELECT sequence, instance, visible_ms, attempts, data FROM activities ORDER BY sequence")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some(waiting) = waiting_row(row, "activities") else { continue };
        let WaitingRow { sequence, instance: number, visible_ms, attempts, item } = waiting;
        let mut activity = Activity::new(sequence, number, item);
        activity.attempts = attempts;
        activity.is_loaded = true;
        if let Some(instance) = state.get(number) {
            instance.activities += 1;
        }
        // No fetch waits yet, so this stays empty.
        let mut wake_ups = Vec::new();
        if visible_ms > now {
            state.activities.add_delayed(activity);
            state.schedule(visible_ms, DueItem::Activity(sequence));
        } else {
            state.activities.add(activity, &mut wake_ups);
        }
    }
    Ok(())
}

/// A row of a queue.
struct WaitingRow {
    sequence: Sequence,
    instance: Number,
    visible_ms: u64,
    attempts: u32,
    item: WorkItem,
}

impl WaitingRow {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let item = serde_json::from_str(row.get_ref(4)?.as_str()?).map_err(|error| undecodable(4, error))?;
        Ok(Self { sequence: row.get(0)?, instance: row.get(1)?, visible_ms: row.get(2)?, attempts: row.get(3)?, item })
    }
}

/// Reads a row of a queue. One that cannot be read stays in the file and stops no other work; the log names it.
fn waiting_row(row: &Row<'_>, table: &str) -> Option<WaitingRow> {
    match WaitingRow::of(row) {
        Ok(waiting) => Some(waiting),
        Err(error) => {
            let sequence: i64 = row.get(0).unwrap_or_default();
            tracing::error!(
                target: "duroxide::store",
                "row {sequence} of the table '{table}' cannot be read, and is left in the file: {error}"
            );
            None
        }
    }
}

/// The number and the record of the instance `id`.
pub fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<(Number, RecordedInstance)>> {
    let mut statement = connection.prepare_cached(BY_ID)?;
    statement.query_row(params![id], |row| record(row).map(|(number, _, record)| (number, record))).optional()
}
