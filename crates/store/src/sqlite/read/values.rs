//! Queries for the key-value pairs, the custom status and the sizes of one instance.

use std::collections::HashMap;

use duroxide::providers::KvEntry;
use duroxide::{Event, EventKind, SystemStats};
use rusqlite::Connection;

use crate::error::Result;
use crate::sqlite::read::query::{count, failed, one, signed, unreadable};

/// The custom status and its version, if that is newer than `last_seen`.
pub fn custom_status(connection: &Connection, id: &str, last_seen: u64) -> Result<Option<(Option<String>, u64)>> {
    const CUSTOM_STATUS: &str = "SELECT custom_status, custom_status_version FROM instances \
         WHERE id = ? AND custom_status_version > ?";
    one(connection, "get_custom_status", CUSTOM_STATUS, (id, signed(last_seen)), |row| {
        Ok((row.get(0)?, count(row, 1)?))
    })
}

/// The current value of a key: from the current execution if it changed the key, otherwise from earlier ones.
pub fn kv_value(connection: &Connection, id: &str, key: &str) -> Result<Option<String>> {
    const VALUE: &str = "SELECT CASE WHEN c.key IS NULL THEN k.value ELSE c.value END FROM instances i \
         LEFT JOIN kv_changes c ON c.instance = i.number AND c.key = ?2 \
         LEFT JOIN kv k ON k.instance = i.number AND k.key = ?2 WHERE i.id = ?1";
    Ok(one(connection, "get_kv_value", VALUE, (id, key), |row| row.get(0))?.flatten())
}

/// All current values.
pub fn kv_all(connection: &Connection, id: &str) -> Result<HashMap<String, String>> {
    const ALL: &str = "SELECT k.key, k.value FROM instances i JOIN kv k ON k.instance = i.number WHERE i.id = ?1 \
         AND NOT EXISTS (SELECT 1 FROM kv_changes WHERE instance = k.instance AND key = k.key) UNION ALL \
         SELECT c.key, c.value FROM instances i JOIN kv_changes c ON c.instance = i.number \
         WHERE i.id = ?1 AND c.value IS NOT NULL";
    let failed = failed("get_kv_all_values");
    let mut statement = connection.prepare_cached(ALL).map_err(failed)?;
    let rows = statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?))).map_err(failed)?;
    rows.collect::<Result<_, _>>().map_err(failed)
}

/// The values from earlier executions: a replay must see the values from the beginning of the current execution.
pub fn kv_snapshot(connection: &Connection, number: i64) -> Result<HashMap<String, KvEntry>> {
    let failed = failed("fetch_orchestration_item");
    let mut statement =
        connection.prepare_cached("SELECT key, value, updated_ms FROM kv WHERE instance = ?").map_err(failed)?;
    let rows = statement
        .query_map([number], |row| {
            Ok((row.get(0)?, KvEntry { value: row.get(1)?, last_updated_at_ms: count(row, 2)? }))
        })
        .map_err(failed)?;
    rows.collect::<Result<_, _>>().map_err(failed)
}

/// The sizes of the current execution and of the values of an instance.
pub fn instance_stats(connection: &Connection, id: &str) -> Result<Option<SystemStats>> {
    const OPERATION: &str = "get_instance_stats";
    const STATS: &str = "WITH instance AS (SELECT number, execution FROM instances \
         WHERE id = ? AND orchestration IS NOT NULL), \
         history AS (SELECT count(*) AS events, coalesce(sum(length(v.data)), 0) AS size FROM instance i \
         JOIN events v ON v.instance = i.number AND v.execution = i.execution), \
         pairs AS (SELECT k.value FROM instance i JOIN kv k ON k.instance = i.number WHERE NOT EXISTS \
         (SELECT 1 FROM kv_changes WHERE instance = k.instance AND key = k.key) UNION ALL \
         SELECT c.value FROM instance i JOIN kv_changes c ON c.instance = i.number WHERE c.value IS NOT NULL) \
         SELECT history.events, history.size, (SELECT count(*) FROM pairs), \
         (SELECT coalesce(sum(length(value)), 0) FROM pairs), \
         (SELECT v.data FROM events v WHERE v.instance = instance.number AND v.execution = instance.execution \
         AND v.event = 1) FROM instance, history";
    let stats = one(connection, OPERATION, STATS, [id], |row| {
        let stats = SystemStats {
            history_event_count: count(row, 0)?,
            history_size_bytes: count(row, 1)?,
            queue_pending_count: 0,
            kv_user_key_count: count(row, 2)?,
            kv_total_value_bytes: count(row, 3)?,
        };
        Ok((stats, row.get::<_, Option<String>>(4)?))
    })?;
    let Some((mut stats, first)) = stats else { return Ok(None) };
    if let Some(first) = first {
        let first: Event =
            serde_json::from_str(&first).map_err(|error| unreadable(OPERATION, 1, &error.to_string()))?;
        // These are the messages that the execution before had not read.
        if let EventKind::OrchestrationStarted { carry_forward_events: Some(carried), .. } = first.kind {
            stats.queue_pending_count = carried.len() as u64;
        }
    }
    Ok(Some(stats))
}
