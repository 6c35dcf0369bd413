//! Queries about instances, executions, parents, children and counts, and the selection of instances for bulk
//! operations.

use duroxide::INITIAL_EXECUTION_ID;
use duroxide::providers::{
    ExecutionInfo, InstanceFilter, InstanceInfo, InstanceTree, PruneOptions, QueueDepths, SystemMetrics,
};
use rusqlite::Connection;
use serde::Deserialize;

use crate::clock::now_ms;
use crate::error::Result;
use crate::failure::Failure;
use crate::history::is_last;
use crate::sqlite::read::query::{column, count, failed, not_found, one, signed, unsigned};

/// How many instances a bulk operation selects without a limit in its filter.
const BULK_LIMIT: u32 = 1000;

/// A part of a list. The default is the whole list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Page<'a> {
    /// The last id of the page before. If that instance was deleted since, the next page is empty.
    pub after: Option<&'a str>,
    pub limit: Option<u32>,
}

/// The time of an event of any kind.
#[derive(Deserialize)]
struct EventTime {
    timestamp_ms: u64,
}

/// The description of one instance. The time of its last event is the time of its last update.
pub fn instance_info(connection: &Connection, id: &str) -> Result<InstanceInfo> {
    const OPERATION: &str = "get_instance_info";
    const INFO: &str = "SELECT i.orchestration, i.version, i.execution, e.status, e.output, i.created_ms, i.parent, \
         (SELECT data FROM events WHERE instance = i.number AND execution = i.execution ORDER BY event DESC LIMIT 1) \
         FROM instances i LEFT JOIN executions e ON e.instance = i.number AND e.execution = i.execution \
         WHERE i.id = ? AND i.orchestration IS NOT NULL";
    one(connection, OPERATION, INFO, [id], |row| {
        let created_at = count(row, 5)?;
        let last: Option<String> = row.get(7)?;
        let last = last.and_then(|data| serde_json::from_str::<EventTime>(&data).ok());
        Ok(InstanceInfo {
            instance_id: id.to_owned(),
            orchestration_name: row.get(0)?,
            orchestration_version: row.get::<_, Option<String>>(1)?.unwrap_or_else(|| "unknown".to_owned()),
            current_execution_id: count(row, 2)?,
            status: row.get::<_, Option<String>>(3)?.unwrap_or_else(|| "Unknown".to_owned()),
            output: row.get(4)?,
            created_at,
            updated_at: last.map_or(created_at, |event| event.timestamp_ms),
            parent_instance_id: row.get(6)?,
        })
    })?
    .ok_or_else(|| not_found(OPERATION, id))
}

pub fn execution_info(connection: &Connection, id: &str, execution: u64) -> Result<ExecutionInfo> {
    const OPERATION: &str = "get_execution_info";
    const INFO: &str = "SELECT e.status, e.output, e.started_ms, e.completed_ms, \
         (SELECT count(*) FROM events WHERE instance = e.instance AND execution = e.execution) \
         FROM instances i JOIN executions e ON e.instance = i.number WHERE i.id = ? AND e.execution = ?";
    one(connection, OPERATION, INFO, (id, signed(execution)), |row| {
        Ok(ExecutionInfo {
            execution_id: execution,
            status: row.get(0)?,
            output: row.get(1)?,
            started_at: count(row, 2)?,
            completed_at: row.get::<_, Option<i64>>(3)?.map(unsigned),
            event_count: usize::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
        })
    })?
    .ok_or_else(|| Failure::not_found(OPERATION, format!("Execution {execution} not found for instance {id}")))
}

/// The ids of all instances, newest first.
pub fn list(connection: &Connection, page: Page<'_>) -> Result<Vec<String>> {
    const LIST: &str = "SELECT id FROM instances WHERE orchestration IS NOT NULL \
         AND number < CASE WHEN ?1 IS NULL THEN 9223372036854775807 \
         ELSE (SELECT number FROM instances WHERE id = ?1) END ORDER BY number DESC LIMIT ?2";
    column(connection, "list_instances", LIST, (page.after, limit(page)))
}

/// The ids of the instances whose current execution has `status`, newest first.
pub fn list_by_status(connection: &Connection, status: &str, page: Page<'_>) -> Result<Vec<String>> {
    const LIST: &str = "SELECT i.id FROM instances i CROSS JOIN executions e ON e.instance = i.number \
         AND e.execution = i.execution WHERE i.orchestration IS NOT NULL AND e.status = ?3 \
         AND i.number < CASE WHEN ?1 IS NULL THEN 9223372036854775807 \
         ELSE (SELECT number FROM instances WHERE id = ?1) END ORDER BY i.number DESC LIMIT ?2";
    // For a status of instances that have not ended, this statement skips all instances that have ended.
    const LIST_ALIVE: &str = "SELECT i.id FROM instances i CROSS JOIN executions e ON e.instance = i.number \
         AND e.execution = i.execution WHERE i.completed_ms IS NULL AND i.orchestration IS NOT NULL AND e.status = ?3 \
         AND i.number < CASE WHEN ?1 IS NULL THEN 9223372036854775807 \
         ELSE (SELECT number FROM instances WHERE id = ?1) END ORDER BY i.number DESC LIMIT ?2";
    let sql = if is_last(status) { LIST } else { LIST_ALIVE };
    column(connection, "list_instances_by_status", sql, (page.after, limit(page), status))
}

/// The limit of a page. SQLite takes a negative limit for none.
fn limit(page: Page<'_>) -> i64 {
    page.limit.map_or(-1, i64::from)
}

pub fn executions(connection: &Connection, id: &str) -> Result<Vec<u64>> {
    const EXECUTIONS: &str = "SELECT e.execution FROM instances i JOIN executions e ON e.instance = i.number \
         WHERE i.id = ? ORDER BY e.execution";
    Ok(column(connection, "list_executions", EXECUTIONS, [id])?.into_iter().map(unsigned).collect())
}

/// The number of the latest execution; the first number for an unknown instance.
pub fn latest_execution(connection: &Connection, id: &str) -> Result<u64> {
    const LATEST: &str =
        "SELECT max(e.execution) FROM instances i JOIN executions e ON e.instance = i.number WHERE i.id = ?";
    let latest: Option<Option<i64>> = one(connection, "latest_execution_id", LATEST, [id], |row| row.get(0))?;
    Ok(latest.flatten().map_or(INITIAL_EXECUTION_ID, unsigned))
}

pub fn children(connection: &Connection, id: &str) -> Result<Vec<String>> {
    column(connection, "list_children", "SELECT id FROM instances WHERE parent = ? ORDER BY number", [id])
}

pub fn parent(connection: &Connection, id: &str) -> Result<Option<String>> {
    const OPERATION: &str = "get_parent_id";
    const PARENT: &str = "SELECT parent FROM instances WHERE id = ? AND orchestration IS NOT NULL";
    one(connection, OPERATION, PARENT, [id], |row| row.get(0))?.ok_or_else(|| not_found(OPERATION, id))
}

/// The instance and all its descendants, each after its parent.
pub fn tree(connection: &Connection, id: &str) -> Result<InstanceTree> {
    const TREE: &str = "WITH RECURSIVE tree(id) AS (SELECT ?1 UNION \
         SELECT i.id FROM tree JOIN instances i ON i.parent = tree.id) SELECT id FROM tree";
    let all_ids = column(connection, "get_instance_tree", TREE, [id])?;
    Ok(InstanceTree { root_id: id.to_owned(), all_ids })
}

/// The metrics from the table of totals, so that the time does not depend on the number of instances.
pub fn system_metrics(connection: &Connection) -> Result<SystemMetrics> {
    let failed = failed("get_system_metrics");
    let mut statement = connection.prepare_cached("SELECT name, value FROM totals").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut metrics = SystemMetrics::default();
    while let Some(row) = rows.next().map_err(failed)? {
        let name: String = row.get(0).map_err(failed)?;
        let value = count(row, 1).map_err(failed)?;
        match name.as_str() {
            "instances" => metrics.total_instances = value,
            "executions" => metrics.total_executions = value,
            "running" => metrics.running_instances = value,
            "completed" => metrics.completed_instances = value,
            "failed" => metrics.failed_instances = value,
            "events" => metrics.total_events = value,
            _ => {}
        }
    }
    Ok(metrics)
}

/// The numbers of all messages and activities in the file. Only the owner knows which of them are being worked on.
pub fn queue_depths(connection: &Connection) -> Result<QueueDepths> {
    const DEPTHS: &str = "SELECT count(*), coalesce(sum(visible_ms > ? AND data LIKE '{\"TimerFired\":%'), 0), \
         (SELECT count(*) FROM activities) FROM messages";
    let depths = one(connection, "get_queue_depths", DEPTHS, [signed(now_ms())], |row| {
        let number = |column| Ok::<_, rusqlite::Error>(usize::try_from(row.get::<_, i64>(column)?).unwrap_or(0));
        let (messages, timer_queue) = (number(0)?, number(1)?);
        Ok(QueueDepths { orchestrator_queue: messages - timer_queue, worker_queue: number(2)?, timer_queue })
    })?;
    Ok(depths.unwrap_or_default())
}

/// The instances that a bulk deletion selects: roots that have ended, in the order of their ends. An instance that has
/// continued as new has not ended.
pub fn to_delete(connection: &Connection, filter: &InstanceFilter) -> Result<Vec<String>> {
    const OPERATION: &str = "delete_instance_bulk";
    const ANY: &str = "SELECT id FROM instances WHERE completed_ms < ?1 AND parent IS NULL \
         AND orchestration IS NOT NULL ORDER BY completed_ms LIMIT ?2";
    const NAMED: &str = "SELECT id FROM instances WHERE id IN (SELECT value FROM json_each(?3)) AND +completed_ms < ?1 \
         AND parent IS NULL AND orchestration IS NOT NULL ORDER BY +completed_ms LIMIT ?2";
    let before = filter.completed_before.map_or(i64::MAX, signed);
    let limit = filter.limit.unwrap_or(BULK_LIMIT);
    match ids_as_json(filter) {
        None => column(connection, OPERATION, ANY, (before, limit)),
        Some(ids) => column(connection, OPERATION, NAMED, (before, limit, ids)),
    }
}

/// The instances that a bulk pruning selects, including running ones. Their current execution is never pruned.
///
/// Without ids in the filter, instances without an earlier execution are left out. Otherwise, the limit would always
/// select the same instances.
pub fn to_prune(connection: &Connection, filter: &InstanceFilter) -> Result<Vec<String>> {
    const OPERATION: &str = "prune_executions_bulk";
    const ANY: &str = "SELECT id FROM instances i WHERE orchestration IS NOT NULL AND execution > 1 \
         AND (?1 IS NULL OR completed_ms < ?1) AND EXISTS \
         (SELECT 1 FROM executions WHERE instance = i.number AND execution < i.execution) ORDER BY number LIMIT ?2";
    const NAMED: &str = "SELECT id FROM instances WHERE id IN (SELECT value FROM json_each(?3)) \
         AND orchestration IS NOT NULL AND (?1 IS NULL OR +completed_ms < ?1) ORDER BY number LIMIT ?2";
    let before = filter.completed_before.map(signed);
    let limit = filter.limit.unwrap_or(BULK_LIMIT);
    match ids_as_json(filter) {
        None => column(connection, OPERATION, ANY, (before, limit)),
        Some(ids) => column(connection, OPERATION, NAMED, (before, limit, ids)),
    }
}

/// The ids in the filter as a JSON array, so that one cached statement works for any number of ids.
fn ids_as_json(filter: &InstanceFilter) -> Option<String> {
    let ids = filter.instance_ids.as_ref()?;
    Some(serde_json::Value::from(ids.clone()).to_string())
}

/// The executions of one instance that pruning deletes. It never deletes the current execution or a running one.
pub fn prunable_executions(connection: &Connection, id: &str, options: &PruneOptions) -> Result<Vec<u64>> {
    const OPERATION: &str = "prune_executions";
    const PRUNABLE: &str = "SELECT e.execution FROM instances i JOIN executions e ON e.instance = i.number \
         WHERE i.id = ?1 AND e.execution <> i.execution AND e.status <> 'Running' AND (?2 IS NULL OR e.completed_ms < ?2) \
         AND e.execution NOT IN (SELECT execution FROM executions WHERE instance = i.number \
         ORDER BY execution DESC LIMIT ?3) ORDER BY e.execution";
    parent(connection, id).map_err(|_| not_found(OPERATION, id))?;
    let parameters = (id, options.completed_before.map(signed), options.keep_last.unwrap_or(0));
    Ok(column(connection, OPERATION, PRUNABLE, parameters)?.into_iter().map(unsigned).collect())
}
