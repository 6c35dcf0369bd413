//! Queries and transactions that the base provider lacks.
//!
//! `bulk_start` starts many instances at once, `outbox` takes over rows of an application's outbox,
//! `mismatch_reports` keeps the reports of instances that wait for other code, `live` has the reports of the nodes,
//! `waiting_starts` finds the starts that no turn has read yet, `deletion` keeps turns away from instances while they
//! are deleted, `seizure` takes turns away from nodes, `listing` has pages of summaries and counts, and `records` reads instances and executions.

pub mod bulk_start;
pub mod deletion;
pub mod listing;
pub mod live;
pub mod mismatch_reports;
pub mod outbox;
pub mod records;
pub mod seizure;
pub mod waiting_starts;

use std::collections::HashSet;
use std::time::Duration;

use duroxide::Event;
use sqlx::PgPool;

use crate::backend::EndedInstances;
use crate::clock::span_ms;
use crate::error::Result;
use crate::failure::Failure;
use crate::postgres::errors::failed;
use crate::postgres::node::left_out::LeftOutRow;
use crate::postgres::schema::{function, rights};
use crate::types::InstanceState;

/// The server's times do not reach further back: 1,000 years.
const LONGEST_AGE: Duration = Duration::from_secs(1_000 * 365 * 86_400);

/// A server and a schema, for the queries of this folder.
pub struct Server<'a> {
    pub pool: &'a PgPool,
    pub schema: &'a str,
}

impl Server<'_> {
    /// The orchestration that `instance` runs, or that its waiting start will run.
    pub async fn running(&self, instance: &str) -> Result<Option<String>> {
        const OPERATION: &str = "start_orchestration";
        let mut connection = self.pool.acquire().await.map_err(|error| failed(OPERATION, &error))?;
        let existing = self.existing(&mut connection, OPERATION, &[instance]).await?.remove(instance);
        Ok(existing.map(|existing| existing.orchestration))
    }

    /// The root instances that ended longer ago than `kept` by the server's clock, in the order of their ends.
    pub async fn ended(&self, kept: Duration, limit: u32) -> Result<EndedInstances> {
        let Self { pool, schema } = self;
        let (now_ms, time_in_ms) = (function(schema, "now_ms"), function(schema, "time_in_ms"));
        let rows: Vec<(String, i64)> = sqlx::query_as(&format!(
            "SELECT i.instance_id, {now_ms}() - $1 FROM \"{schema}\".instances i JOIN \"{schema}\".executions e \
             ON e.instance_id = i.instance_id AND e.execution_id = i.current_execution_id \
             WHERE i.parent_instance_id IS NULL AND e.status IN ('Completed', 'Failed') \
             AND e.completed_at < {time_in_ms}(-$1) ORDER BY e.completed_at LIMIT $2"
        ))
        .bind(span_ms(kept.min(LONGEST_AGE)))
        .bind(i64::from(limit))
        .fetch_all(*pool)
        .await
        .map_err(|error| failed("delete_instance_bulk", &error))?;
        let before_ms = rows.first().map_or(0, |(_, before_ms)| u64::try_from(*before_ms).unwrap_or(0));
        Ok(EndedInstances { ids: rows.into_iter().map(|(id, _)| id).collect(), before_ms })
    }

    /// Deletes the sessions whose lease has ended by the server's clock, and whose activities have all ended. Returns
    /// how many there were.
    pub async fn clean_sessions(&self) -> Result<usize> {
        let Self { pool, schema } = self;
        let cleaned = sqlx::query(&format!(
            "DELETE FROM \"{schema}\".sessions s \
             WHERE s.locked_until < {now_ms}() AND NOT EXISTS \
             (SELECT 1 FROM \"{schema}\".worker_queue w WHERE w.session_id = s.session_id)",
            now_ms = function(schema, "now_ms")
        ))
        .execute(*pool)
        .await
        .map_err(|error| failed("cleanup_orphaned_sessions", &error))?;
        Ok(usize::try_from(cleaned.rows_affected()).unwrap_or(usize::MAX))
    }

    /// Which of these instances have ended.
    pub async fn ended_among(&self, instances: &[String]) -> Result<HashSet<String>> {
        let Self { pool, schema } = self;
        let ids: Vec<String> = sqlx::query_scalar(&format!(
            "SELECT i.instance_id FROM \"{schema}\".instances i JOIN \"{schema}\".executions e \
             ON e.instance_id = i.instance_id AND e.execution_id = i.current_execution_id \
             WHERE i.instance_id = ANY ($1) AND e.status IN ('Completed', 'Failed')"
        ))
        .bind(instances)
        .fetch_all(*pool)
        .await
        .map_err(|error| failed("get_instance_info", &error))?;
        Ok(ids.into_iter().collect())
    }

    /// The state of an instance; `None` if it does not exist. An instance whose start waits is running.
    ///
    /// It is one statement, since a start leaves the queue in the transaction that creates the instance. The server reads
    /// the queue only if the instance has no row.
    pub async fn instance_state(&self, instance: &str) -> Result<Option<InstanceState>> {
        let Self { pool, schema } = self;
        let row: Option<(String, Option<String>, Option<String>, i32)> = sqlx::query_as(&format!(
            "SELECT coalesce(e.status, 'Running'), e.output, i.custom_status, i.custom_status_version \
             FROM \"{schema}\".instances i LEFT JOIN \"{schema}\".executions e \
             ON e.instance_id = i.instance_id AND e.execution_id = i.current_execution_id WHERE i.instance_id = $1 \
             UNION ALL SELECT 'Running', NULL, NULL, 0 FROM \"{schema}\".orchestrator_queue \
             WHERE instance_id = $1 AND work_item LIKE '{{\"StartOrchestration\":%' LIMIT 1"
        ))
        .bind(instance)
        .fetch_optional(*pool)
        .await
        .map_err(|error| failed("get_instance_info", &error))?;
        Ok(row.map(|(status, output, custom_status, version)| InstanceState {
            status,
            output,
            custom_status,
            custom_status_version: u64::try_from(version).unwrap_or(0),
        }))
    }

    /// When an instance was created, in µs since the epoch; `None` if it does not exist.
    pub async fn created(&self, instance: &str) -> Result<Option<u64>> {
        let Self { pool, schema } = self;
        let created: Option<i64> = sqlx::query_scalar(&format!(
            "SELECT {in_us}(created_at) FROM \"{schema}\".instances WHERE instance_id = $1",
            in_us = function(schema, "in_us")
        ))
        .bind(instance)
        .fetch_optional(*pool)
        .await
        .map_err(|error| failed("get_instance_info", &error))?;
        Ok(created.map(i64::unsigned_abs))
    }

    /// The first rows of the queues whose time never comes. Both tables have an index of these times.
    pub async fn never_due(&self) -> Result<Vec<LeftOutRow>> {
        let Self { pool, schema } = self;
        let never = |table: &str| {
            format!(
                "(SELECT '{table}'::text, id, instance_id FROM \"{schema}\".{table} \
                 WHERE visible_at = 'infinity'::timestamptz LIMIT 100)"
            )
        };
        let statement = format!("{} UNION ALL {}", never("orchestrator_queue"), never("worker_queue"));
        let rows: Vec<(String, i64, Option<String>)> = sqlx::query_as(&statement)
            .fetch_all(*pool)
            .await
            .map_err(|error| failed("fetch_orchestration_item", &error))?;
        let row = |(table, id, instance)| LeftOutRow { table, id, instance, fact: "it is never due".to_owned() };
        Ok(rows.into_iter().map(row).collect())
    }

    /// How many timers are not due yet.
    pub async fn count_timers(&self) -> Result<usize> {
        let Self { pool, schema } = self;
        let timers: i64 = sqlx::query_scalar(&format!(
            "SELECT count(*) FROM \"{schema}\".orchestrator_queue WHERE visible_at > clock_timestamp() \
             AND work_item LIKE '{{\"TimerFired\":%'"
        ))
        .fetch_one(*pool)
        .await
        .map_err(|error| failed("get_queue_depths", &error))?;
        Ok(usize::try_from(timers).unwrap_or(0))
    }

    /// The statements that give the role of this store the rights that it lacks.
    pub async fn missing_rights(&self) -> Result<Vec<String>> {
        let Self { pool, schema } = self;
        rights::missing(pool, schema).await.map_err(|error| failed("missing_rights", &error))
    }

    /// Ends the leases of the sessions of these owners, so that another runtime can take them.
    pub async fn release_sessions(&self, owners: &[String]) -> Result<()> {
        let Self { pool, schema } = self;
        sqlx::query(&format!("UPDATE \"{schema}\".sessions SET locked_until = 0 WHERE worker_id = ANY ($1)"))
            .bind(owners)
            .execute(*pool)
            .await
            .map_err(|error| failed("release_sessions", &error))?;
        Ok(())
    }

    /// The first and the last event of an instance.
    pub async fn first_and_last(&self, instance: &str) -> Result<Option<(Event, Event)>> {
        let first = self.outer_event(instance, "ASC").await?;
        let last = self.outer_event(instance, "DESC").await?;
        Ok(first.zip(last))
    }

    async fn outer_event(&self, instance: &str, order: &'static str) -> Result<Option<Event>> {
        const OPERATION: &str = "get_instance_info";
        let Self { pool, schema } = self;
        let text: Option<String> = sqlx::query_scalar(&format!(
            "SELECT event_data FROM \"{schema}\".history WHERE instance_id = $1 \
             ORDER BY execution_id {order}, event_id {order} LIMIT 1"
        ))
        .bind(instance)
        .fetch_optional(*pool)
        .await
        .map_err(|error| failed(OPERATION, &error))?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| Failure::unreadable(OPERATION, format!("an event cannot be read: {error}")))
    }
}
