//! What is read into memory: at open all that waits, later each instance when something happens to it.

use duroxide::providers::{ProviderError, WorkItem};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::clock::now_ms;
use crate::policy::StorePolicy;
use crate::sqlite::owner::memory::activity_queue::Activity;
use crate::sqlite::owner::memory::ids::{Number, Sequence, Version};
use crate::sqlite::owner::memory::state::{Due, Known, Message, State};
use crate::sqlite::owner::{Locked, OwnerCore};
use crate::sqlite::read;

/// What the file says of the instances that a condition names.
macro_rules! known_where {
    ($condition:literal) => {
        concat!(
            "SELECT i.number, i.id, i.orchestration, i.version, i.starting, i.execution, i.completed_ms IS NOT NULL, \
             coalesce(e.execution, 0), e.major, e.minor, e.patch, \
             EXISTS (SELECT 1 FROM kv WHERE kv.instance = i.number) \
             OR EXISTS (SELECT 1 FROM kv_changes WHERE kv_changes.instance = i.number), \
             EXISTS (SELECT 1 FROM mismatches WHERE mismatches.instance = i.number) \
             FROM instances i LEFT JOIN executions e ON e.instance = i.number AND e.execution = i.execution WHERE ",
            $condition
        )
    };
}

const WAITING: &str = known_where!("i.number IN (SELECT instance FROM messages UNION SELECT instance FROM activities)");
const BY_ID: &str = known_where!("i.id = ?1");

fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<std::sync::Arc<str>>> {
    row.get::<_, Option<String>>(column).map(|text| text.map(Into::into))
}

fn known(row: &Row<'_>) -> rusqlite::Result<(Number, String, Known)> {
    let pinned: Option<Version> = match (row.get(8)?, row.get(9)?, row.get(10)?) {
        (Some(major), Some(minor), Some(patch)) => Some((major, minor, patch)),
        _ => None,
    };
    let known = Known {
        orchestration: text(row, 2)?,
        version: text(row, 3)?,
        starting: text(row, 4)?,
        execution: row.get(5)?,
        recorded_execution: row.get(7)?,
        pinned,
        has_ended: row.get(6)?,
        has_kv: row.get(11)?,
        has_mismatch: row.get(12)?,
    };
    Ok((row.get(0)?, row.get(1)?, known))
}

fn undecodable(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

/// All that waits in a file.
pub fn state(connection: &Connection, policy: StorePolicy) -> rusqlite::Result<State> {
    let number: Number =
        connection.query_row("SELECT coalesce(max(number), 0) FROM instances", [], |row| row.get(0))?;
    let sequence: Sequence = connection.query_row(
        "SELECT max(coalesce((SELECT max(sequence) FROM messages), 0), coalesce((SELECT max(sequence) FROM activities), 0))",
        [],
        |row| row.get(0),
    )?;
    let mut state = State::new(number, sequence, policy);
    let mut statement = connection.prepare(WAITING)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (number, id, known) = known(row)?;
        state.adopt(number, &id);
        if let Some(instance) = state.get(number) {
            instance.know(known);
        }
    }
    load_messages(connection, &mut state)?;
    load_activities(connection, &mut state)?;
    Ok(state)
}

fn load_messages(connection: &Connection, state: &mut State) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare("SELECT sequence, instance, visible_ms, attempts, data FROM messages ORDER BY sequence")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let item: WorkItem = serde_json::from_str(row.get_ref(4)?.as_str()?).map_err(|error| undecodable(4, error))?;
        let message = Message { sequence: row.get(0)?, item: Box::new(item), attempts: row.get(3)?, is_found: true };
        state.push(row.get(1)?, message, row.get(2)?);
    }
    Ok(())
}

fn load_activities(connection: &Connection, state: &mut State) -> rusqlite::Result<()> {
    let now = now_ms();
    let mut statement = connection
        .prepare("SELECT sequence, instance, visible_ms, attempts, data FROM activities ORDER BY sequence")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let item: WorkItem = serde_json::from_str(row.get_ref(4)?.as_str()?).map_err(|error| undecodable(4, error))?;
        let number: Number = row.get(1)?;
        let visible_ms: u64 = row.get(2)?;
        let mut activity = Activity::new(row.get(0)?, number, item);
        activity.attempts = row.get(3)?;
        activity.is_found = true;
        if let Some(instance) = state.get(number) {
            instance.activities += 1;
        }
        let sequence = activity.sequence;
        let mut bells = Vec::new();
        if visible_ms > now {
            state.activities.add_delayed(activity);
            state.at(visible_ms, Due::Activity(sequence));
        } else {
            state.activities.add(activity, &mut bells);
        }
    }
    Ok(())
}

fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<(Number, Known)>> {
    let mut statement = connection.prepare_cached(BY_ID)?;
    statement.query_row(params![id], |row| known(row).map(|(number, _, known)| (number, known))).optional()
}

impl OwnerCore {
    /// Runs `work` under the lock, with the instances of `ids` in memory.
    pub fn with_instances<R>(
        &self,
        ids: &[&str],
        work: impl FnOnce(&mut Locked<'_>, &[Number]) -> R,
    ) -> Result<R, ProviderError> {
        let mut unknown = Vec::new();
        {
            let mut state = self.lock();
            for id in ids {
                let number = state.intern(id);
                if let Some(instance) = state.get(number)
                    && instance.known.is_none()
                {
                    instance.pins += 1;
                    unknown.push(*id);
                }
            }
            if unknown.is_empty() {
                let numbers: Vec<Number> = ids.iter().map(|id| state.intern(id)).collect();
                return Ok(work(&mut state, &numbers));
            }
        }
        let (found, mut state) = loop {
            let deletions = self.lock().deletions;
            let found = self.read("find_instance", |connection| {
                let failed = read::failed("find_instance");
                unknown.iter().map(|id| find(connection, id).map_err(failed)).collect::<Result<Vec<_>, _>>()
            });
            let state = self.lock();
            // What was read of an instance that was deleted meanwhile would bring it back.
            if state.deletions == deletions {
                break (found, state);
            }
        };
        for (place, id) in unknown.iter().enumerate() {
            let number = state.intern(id);
            let Some(instance) = state.get(number) else { continue };
            instance.pins = instance.pins.saturating_sub(1);
            let Ok(found) = &found else {
                if instance.known.is_none() {
                    state.forget_if_idle(number);
                }
                continue;
            };
            if instance.known.is_some() {
                continue;
            }
            if let Some((recorded, known)) = &found[place] {
                instance.know(known.clone());
                state.renumber(number, *recorded);
            } else {
                instance.know(Known { execution: duroxide::INITIAL_EXECUTION_ID, ..Known::default() });
                instance.has_row = false;
            }
        }
        // Nothing was done, and the next attempt may find a file that can be opened.
        found.map_err(|error| match self.health.broken() {
            Some(_) => error,
            None => ProviderError::retryable(error.operation, error.message),
        })?;
        let numbers: Vec<Number> = ids.iter().map(|id| state.intern(id)).collect();
        Ok(work(&mut state, &numbers))
    }
}
