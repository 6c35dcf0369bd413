//! Stores the reports of instances that wait for other code, so that every process can read them. The tables of
//! `duroxide-pg` have no place for them, so they are in an additional table, which is created with our functions.
//!
//! A report is valid as long as the history does not grow. So a node that continues the instance need not delete the
//! report.

use std::time::Duration;

use crate::error::Result;
use crate::postgres::errors::failed;
use crate::postgres::queries::Server;

const NOTE: &str = "note_mismatch";
const READ: &str = "get_instance_info";

/// The longest wait for the server when a report is written, since the caller holds a lease.
pub const LONGEST_NOTE: Duration = Duration::from_secs(2);

impl Server<'_> {
    /// Stores the report of an instance, and replaces an earlier one.
    pub async fn note_waiting(&self, instance: &str, report: &str) -> Result<()> {
        let Self { pool, schema } = self;
        sqlx::query(&format!(
            "INSERT INTO \"{schema}\".python_waiting SELECT instance_id, execution_id, event_id, $2 \
             FROM \"{schema}\".history WHERE instance_id = $1 ORDER BY execution_id DESC, event_id DESC LIMIT 1 \
             ON CONFLICT (instance_id) DO UPDATE SET execution_id = EXCLUDED.execution_id, \
             last_event_id = EXCLUDED.last_event_id, report = EXCLUDED.report"
        ))
        .bind(instance)
        .bind(report)
        .execute(*pool)
        .await
        .map_err(|error| failed(NOTE, &error))?;
        Ok(())
    }

    /// The ids of the instances that wait.
    pub async fn mismatched(&self) -> Result<Vec<String>> {
        let Self { pool, schema } = self;
        sqlx::query_scalar(&format!(
            "SELECT w.instance_id FROM \"{schema}\".python_waiting w JOIN \"{schema}\".instances i \
             ON i.instance_id = w.instance_id AND i.current_execution_id = w.execution_id \
             JOIN \"{schema}\".executions e ON e.instance_id = w.instance_id AND e.execution_id = w.execution_id \
             WHERE e.status = 'Running' AND NOT EXISTS (SELECT 1 FROM \"{schema}\".history h \
             WHERE h.instance_id = w.instance_id AND (h.execution_id, h.event_id) > (w.execution_id, w.last_event_id))"
        ))
        .fetch_all(*pool)
        .await
        .map_err(|error| failed("get_system_metrics", &error))
    }

    /// The report of an instance, if it waits.
    pub async fn waiting(&self, instance: &str) -> Result<Option<String>> {
        let Self { pool, schema } = self;
        sqlx::query_scalar(&format!(
            "SELECT w.report FROM \"{schema}\".python_waiting w WHERE w.instance_id = $1 AND NOT EXISTS (SELECT 1 FROM \
             \"{schema}\".history h WHERE h.instance_id = w.instance_id AND \
             (h.execution_id, h.event_id) > (w.execution_id, w.last_event_id))"
        ))
        .bind(instance)
        .fetch_optional(*pool)
        .await
        .map_err(|error| failed(READ, &error))
    }
}
