//! From a file of the engine's bundled provider to a store of ours: all of it, running instances included, or nothing.
//!
//! Such a file has been through twelve migrations or through none, by the release that wrote it, so a column that is not
//! there counts as its default. Locks are not taken over: whoever held them is gone.

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
use crate::sqlite::file::paths::refused;
use crate::sqlite::file::schema::{TABLES, mark};

/// For a process that has been told to end, and closes the file just now.
const PATIENCE: Duration = Duration::from_secs(5);

/// All tables of the bundled provider, after two of them made way for ours.
const REMAINS: &str = "DROP TABLE IF EXISTS bundled_instances; DROP TABLE IF EXISTS bundled_executions; \
     DROP TABLE IF EXISTS history; DROP TABLE IF EXISTS orchestrator_queue; DROP TABLE IF EXISTS worker_queue; \
     DROP TABLE IF EXISTS timer_queue; DROP TABLE IF EXISTS instance_locks; DROP TABLE IF EXISTS sessions; \
     DROP TABLE IF EXISTS kv_store; DROP TABLE IF EXISTS kv_delta; DROP TABLE IF EXISTS _sqlx_migrations;";

/// Keeps a copy of the file beside it, then turns the file into a store in one transaction.
pub fn upgrade(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let refused = |error: rusqlite::Error| refused(path, &error);
    take_alone(connection, path, PATIENCE)?;
    // Neither may change inside a transaction. The old tables refer to each other; ours do not.
    connection.pragma_update(None, "foreign_keys", false).map_err(refused)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(refused)?;
    let copy = copy::keep(path)?;
    convert(&transaction).map_err(refused)?;
    mark(&transaction).map_err(refused)?;
    transaction.commit().map_err(refused)?;
    tracing::info!(
        target: "duroxide::store",
        "'{}' was upgraded from the schema of the engine's own store; as it was before it is kept in '{}'",
        path.display(),
        copy.display()
    );
    Ok(())
}

/// Fails while another process has the file open: an older release would go on with tables that are gone.
///
/// Leaving the write-ahead log takes a lock that every other connection prevents. Without the log the transaction that
/// follows needs room for what it changes only once.
fn take_alone(connection: &Connection, path: &Path, patience: Duration) -> Result<(), StoreError> {
    let began = Instant::now();
    loop {
        let left = connection.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get::<_, String>(0));
        match left {
            Ok(mode) if mode == "delete" => return Ok(()),
            Err(error) if !is_busy(&error) => return Err(refused(path, &error)),
            // SQLite does not wait for this lock by itself.
            _ if began.elapsed() < patience => std::thread::sleep(Duration::from_millis(10)),
            _ => return Err(in_use(path)),
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn in_use(path: &Path) -> StoreError {
    StoreError::Unavailable(format!(
        "'{}' has to be upgraded, and another process has it open; stop that process and try again",
        path.display()
    ))
}

/// Which tables the old file has, and with which columns.
struct Old(HashMap<String, HashSet<String>>);

impl Old {
    fn look(connection: &Connection) -> rusqlite::Result<Self> {
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

    /// The column, or what it stands for where a release did not have it yet.
    fn column<'a>(&self, table: &str, column: &'a str, default: &'a str) -> &'a str {
        if self.0.get(table).is_some_and(|columns| columns.contains(column)) { column } else { default }
    }
}

/// A time in milliseconds: the provider wrote them as such, as SQLite's text, or not at all.
fn milliseconds(column: &str, default: &str) -> String {
    format!(
        "max(0, CASE typeof({column}) WHEN 'integer' THEN {column} WHEN 'real' THEN CAST({column} AS INTEGER) \
         ELSE coalesce(CAST(round(unixepoch({column}, 'subsec') * 1000) AS INTEGER), {default}) END)"
    )
}

fn convert(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let old = Old::look(transaction)?;
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
    transaction.execute_batch(REMAINS)
}

/// The instances in the order of their creation, then whatever else something is kept of: a start that waits, early messages.
fn instances(transaction: &Transaction<'_>, old: &Old, now: &str) -> rusqlite::Result<()> {
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

/// The instance of an activity: releases before the fourth migration have it in the item alone.
fn worker_instance(old: &Old) -> String {
    format!(
        "coalesce({}, CASE WHEN json_valid(work_item) THEN work_item ->> '$.ActivityExecute.instance' END)",
        old.column("worker_queue", "instance_id", "NULL")
    )
}

const TIMER_INSTANCE: &str = "CASE WHEN json_valid(work_item) THEN work_item ->> '$.TimerFired.instance' END";

fn executions(transaction: &Transaction<'_>, old: &Old, now: &str) -> rusqlite::Result<()> {
    let column = |name, default| old.column("executions", name, default);
    // Row by row in the order of the new keys, so that the new tables grow at their end.
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

fn queues(transaction: &Transaction<'_>, old: &Old) -> rusqlite::Result<()> {
    transaction.execute_batch(&format!(
        "INSERT INTO messages SELECT q.id, i.number, {visible}, {attempts}, q.work_item \
         FROM orchestrator_queue q CROSS JOIN instances i ON i.id = q.instance_id ORDER BY q.id;",
        visible = milliseconds("q.visible_at", "0"),
        attempts = old.column("orchestrator_queue", "attempt_count", "0"),
    ))?;
    // The first releases kept their timers apart.
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

/// Removes what nobody can deliver: the bundled provider skips it too. The copy of the file keeps it.
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
                "{} queued {table} of the old file cannot be read by any release and were left behind: {unreadable:?}",
                unreadable.len()
            );
        }
    }
    Ok(())
}

fn values(transaction: &Transaction<'_>, old: &Old) -> rusqlite::Result<()> {
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

/// Between two executions an instance counts among none of the three states, as the owner counts it.
const TOTALS: &str = "UPDATE totals SET value = CASE name \
     WHEN 'executions' THEN (SELECT count(*) FROM executions) \
     WHEN 'events' THEN (SELECT count(*) FROM events) \
     ELSE (SELECT count(*) FROM instances i LEFT JOIN executions e ON e.instance = i.number \
     AND e.execution = i.execution WHERE i.orchestration IS NOT NULL AND CASE totals.name \
     WHEN 'completed' THEN e.status = 'Completed' WHEN 'failed' THEN e.status = 'Failed' \
     WHEN 'running' THEN coalesce(e.status, 'Running') = 'Running' ELSE true END) END;";
