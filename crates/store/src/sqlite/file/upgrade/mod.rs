//! Converts a file of the engine's bundled provider into a store of this package, with its running instances, in one
//! transaction.
//!
//! Such a file has between zero and twelve migrations, depending on the release that wrote it. The conversion uses a
//! default for each column that is missing. It drops the locks, since the processes that held them have ended.

pub mod copy;
#[cfg(test)]
pub mod tests;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use duroxide::providers::WorkItem;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use crate::clock::now_ms;
use crate::error::StoreError;
use crate::sqlite::file::paths::file_error;
use crate::sqlite::file::schema::{TABLES, mark};

/// How long to wait for a process that is about to end and still has the file open.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Drops all tables of the bundled provider. Two of them were renamed before, since new tables have their names.
const DROP_OLD_TABLES: &str = "DROP TABLE IF EXISTS bundled_instances; DROP TABLE IF EXISTS bundled_executions; \
     DROP TABLE IF EXISTS history; DROP TABLE IF EXISTS orchestrator_queue; DROP TABLE IF EXISTS worker_queue; \
     DROP TABLE IF EXISTS timer_queue; DROP TABLE IF EXISTS instance_locks; DROP TABLE IF EXISTS sessions; \
     DROP TABLE IF EXISTS kv_store; DROP TABLE IF EXISTS kv_delta; DROP TABLE IF EXISTS _sqlx_migrations;";

/// Copies the file, then converts it in one transaction.
pub fn upgrade(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| file_error(path, &error);
    require_sole_access(connection, path, LOCK_TIMEOUT)?;
    // SQLite ignores this inside a transaction. The old tables refer to each other; the new tables do not.
    connection.pragma_update(None, "foreign_keys", false).map_err(failed)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let copy = copy::create(path)?;
    convert(&transaction).map_err(failed)?;
    mark(&transaction).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    tracing::info!(
        target: "duroxide::store",
        "'{}' was upgraded from the schema of the engine's bundled store; a copy of the old file is in '{}'",
        path.display(),
        copy.display()
    );
    Ok(())
}

/// Fails while another process has the file open: an older release would continue to use the tables that the upgrade
/// drops.
///
/// A change of the journal mode needs a lock that SQLite grants only to a sole connection. And without the write-ahead
/// log, the conversion needs disk space for its changes only once.
fn require_sole_access(connection: &Connection, path: &Path, timeout: Duration) -> Result<(), StoreError> {
    let began = Instant::now();
    loop {
        let changed = connection.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get::<_, String>(0));
        match changed {
            Ok(mode) if mode == "delete" => return Ok(()),
            Err(error) if !is_busy(&error) => return Err(file_error(path, &error)),
            // SQLite does not wait for this lock.
            _ if began.elapsed() < timeout => std::thread::sleep(Duration::from_millis(10)),
            _ => return Err(in_use_error(path)),
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn in_use_error(path: &Path) -> StoreError {
    StoreError::Unavailable(format!(
        "'{}' has to be upgraded, and another process has it open; stop that process and try again",
        path.display()
    ))
}

/// The tables of the old file, with their columns.
struct OldTables(HashMap<String, HashSet<String>>);

impl OldTables {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut tables: HashMap<String, HashSet<String>> = HashMap::new();
        let mut statement = connection.prepare(
            "SELECT t.name, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c WHERE t.type = 'table'",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            tables.entry(row.get(0)?).or_default().insert(row.get(1)?);
        }
        Ok(Self(tables))
    }

    fn has(&self, table: &str) -> bool {
        self.0.contains_key(table)
    }

    /// The name of the column, or `default` if the release did not have the column.
    fn column<'a>(&self, table: &str, column: &'a str, default: &'a str) -> &'a str {
        if self.0.get(table).is_some_and(|columns| columns.contains(column)) { column } else { default }
    }
}

/// An SQL expression for a time in milliseconds. The provider wrote milliseconds, SQLite's text, or nothing.
fn milliseconds(column: &str, default: &str) -> String {
    format!(
        "max(0, CASE typeof({column}) WHEN 'integer' THEN {column} WHEN 'real' THEN CAST({column} AS INTEGER) \
         ELSE coalesce(CAST(round(unixepoch({column}, 'subsec') * 1000) AS INTEGER), {default}) END)"
    )
}

fn convert(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let old = OldTables::read(transaction)?;
    transaction.execute_batch(
        "ALTER TABLE instances RENAME TO bundled_instances; ALTER TABLE executions RENAME TO bundled_executions;",
    )?;
    transaction.execute_batch(TABLES)?;
    let now = now_ms().to_string();
    instances(transaction, &old, &now)?;
    executions(transaction, &old, &now)?;
    queues(transaction, &old)?;
    drop_unreadable(transaction)?;
    values(transaction, &old)?;
    transaction.execute_batch(TOTALS)?;
    transaction.execute_batch(DROP_OLD_TABLES)
}

/// Copies the instances in the order of their creation. Then adds a row for each other id that has a waiting start or
/// early messages.
fn instances(transaction: &Transaction<'_>, old: &OldTables, now: &str) -> rusqlite::Result<()> {
    let column = |name, default| old.column("instances", name, default);
    let created = milliseconds(column("created_at", "NULL"), now);
    transaction.execute_batch(&format!(
        "INSERT INTO instances(id, orchestration, version, execution, parent, created_ms, custom_status, \
         custom_status_version) SELECT instance_id, orchestration_name, orchestration_version, current_execution_id, \
         {parent}, {created}, {status}, {version} FROM bundled_instances ORDER BY {created}, rowid;",
        parent = column("parent_instance_id", "NULL"),
        status = column("custom_status", "NULL"),
        version = column("custom_status_version", "0"),
    ))?;
    let mut ids = vec![
        "SELECT instance_id AS id FROM bundled_executions".to_owned(),
        "SELECT instance_id FROM history".to_owned(),
        "SELECT instance_id FROM orchestrator_queue".to_owned(),
        format!("SELECT {} FROM worker_queue", worker_instance(old)),
    ];
    if old.has("timer_queue") {
        ids.push(format!("SELECT {TIMER_INSTANCE} FROM timer_queue"));
    }
    transaction.execute_batch(&format!(
        "INSERT INTO instances(id, execution, created_ms) SELECT o.id, \
         coalesce((SELECT max(execution_id) FROM bundled_executions WHERE instance_id = o.id), 1), {now} \
         FROM ({}) o WHERE o.id IS NOT NULL AND o.id NOT IN (SELECT id FROM instances) ORDER BY o.id;",
        ids.join(" UNION ")
    ))
}

/// An SQL expression for the instance of an activity. Before the fourth migration, only the work item contains it.
fn worker_instance(old: &OldTables) -> String {
    format!(
        "coalesce({}, CASE WHEN json_valid(work_item) THEN work_item ->> '$.ActivityExecute.instance' END)",
        old.column("worker_queue", "instance_id", "NULL")
    )
}

const TIMER_INSTANCE: &str = "CASE WHEN json_valid(work_item) THEN work_item ->> '$.TimerFired.instance' END";

fn executions(transaction: &Transaction<'_>, old: &OldTables, now: &str) -> rusqlite::Result<()> {
    let column = |name, default| old.column("executions", name, default);
    // The rows are inserted in the order of the new keys, so that the new tables grow at their end.
    transaction.execute_batch(&format!(
        "INSERT INTO executions SELECT i.number, o.execution_id, o.status, {output}, {started}, {completed}, \
         {major}, {minor}, {patch} FROM instances i CROSS JOIN bundled_executions o ON o.instance_id = i.id \
         ORDER BY i.number, o.execution_id; \
         INSERT INTO events SELECT i.number, h.execution_id, h.event_id, h.event_data \
         FROM instances i CROSS JOIN history h ON h.instance_id = i.id ORDER BY i.number, h.execution_id, h.event_id; \
         UPDATE instances SET completed_ms = coalesce(e.completed_ms, e.started_ms) FROM executions e \
         WHERE e.instance = number AND e.execution = instances.execution AND e.status IN ('Completed', 'Failed');",
        output = column("output", "NULL"),
        started = milliseconds("o.started_at", now),
        completed = milliseconds("o.completed_at", "NULL"),
        major = column("duroxide_version_major", "NULL"),
        minor = column("duroxide_version_minor", "NULL"),
        patch = column("duroxide_version_patch", "NULL"),
    ))
}

fn queues(transaction: &Transaction<'_>, old: &OldTables) -> rusqlite::Result<()> {
    transaction.execute_batch(&format!(
        "INSERT INTO messages SELECT q.id, i.number, {visible}, {attempts}, q.work_item \
         FROM orchestrator_queue q CROSS JOIN instances i ON i.id = q.instance_id ORDER BY q.id;",
        visible = milliseconds("q.visible_at", "0"),
        attempts = old.column("orchestrator_queue", "attempt_count", "0"),
    ))?;
    // The first releases had a separate table of timers.
    if old.has("timer_queue") {
        transaction.execute_batch(&format!(
            "INSERT INTO messages(instance, visible_ms, data) SELECT i.number, {visible}, t.work_item \
             FROM timer_queue t CROSS JOIN instances i ON i.id = {TIMER_INSTANCE} ORDER BY t.id;",
            visible = milliseconds("t.fire_at", "0"),
        ))?;
    }
    transaction.execute_batch(&format!(
        "INSERT INTO activities SELECT q.sequence, i.number, q.visible_ms, q.attempts, q.data FROM \
         (SELECT id AS sequence, {instance} AS instance, {visible} AS visible_ms, {attempts} AS attempts, \
         work_item AS data FROM worker_queue) q CROSS JOIN instances i ON i.id = q.instance ORDER BY q.sequence;",
        instance = worker_instance(old),
        visible = milliseconds(old.column("worker_queue", "visible_at", "0"), "0"),
        attempts = old.column("worker_queue", "attempt_count", "0"),
    ))?;
    transaction.execute_batch(
        "UPDATE instances SET starting = s.orchestration FROM (SELECT instance, min(sequence), orchestration FROM \
         (SELECT instance, sequence, CASE WHEN json_valid(data) THEN data ->> '$.StartOrchestration.orchestration' END \
         AS orchestration FROM messages) WHERE orchestration IS NOT NULL GROUP BY instance) s \
         WHERE s.instance = number AND instances.orchestration IS NULL;",
    )
}

/// Removes work items that cannot be decoded. The bundled provider skips them too. The copy of the file still has them.
fn drop_unreadable(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    for table in ["messages", "activities"] {
        let mut unreadable = Vec::new();
        let mut statement = transaction.prepare(&format!("SELECT sequence, data FROM {table}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let item = row.get_ref(1)?.as_str().ok().and_then(|data| serde_json::from_str::<WorkItem>(data).ok());
            if item.is_none() {
                unreadable.push(row.get::<_, i64>(0)?);
            }
        }
        for sequence in &unreadable {
            transaction.execute(&format!("DELETE FROM {table} WHERE sequence = ?"), [sequence])?;
        }
        if !unreadable.is_empty() {
            tracing::warn!(
                target: "duroxide::store",
                "no release can read {} queued {table} of the old file, so they were not converted: {unreadable:?}",
                unreadable.len()
            );
        }
    }
    Ok(())
}

fn values(transaction: &Transaction<'_>, old: &OldTables) -> rusqlite::Result<()> {
    if old.has("kv_store") {
        transaction.execute_batch(&format!(
            "INSERT INTO kv SELECT i.number, key, value, {} \
             FROM instances i CROSS JOIN kv_store k ON k.instance_id = i.id ORDER BY i.number, key;",
            old.column("kv_store", "last_updated_at_ms", "0")
        ))?;
    }
    if old.has("kv_delta") {
        transaction.execute_batch(
            "INSERT INTO kv_changes SELECT i.number, key, value, last_updated_at_ms \
             FROM instances i CROSS JOIN kv_delta k ON k.instance_id = i.id ORDER BY i.number, key;",
        )?;
    }
    Ok(())
}

/// Counts the totals as the owner counts them: between two executions, an instance has none of the three states.
const TOTALS: &str = "UPDATE totals SET value = CASE name \
     WHEN 'executions' THEN (SELECT count(*) FROM executions) \
     WHEN 'events' THEN (SELECT count(*) FROM events) \
     ELSE (SELECT count(*) FROM instances i LEFT JOIN executions e ON e.instance = i.number \
     AND e.execution = i.execution WHERE i.orchestration IS NOT NULL AND CASE totals.name \
     WHEN 'completed' THEN e.status = 'Completed' WHEN 'failed' THEN e.status = 'Failed' \
     WHEN 'running' THEN coalesce(e.status, 'Running') = 'Running' ELSE true END) END;";
