//! Why instances wait, kept on PostgreSQL where every process finds it. In the tables of its provider there is no place
//! for it, so there is one table of our own, which is made along with the functions.
//!
//! A report holds as long as history does not grow: whoever goes on with the instance needs not know of it.

use std::time::Duration;

use crate::error::Result;
use crate::postgres::errors::failed;
use crate::postgres::queries::Server;

const NOTE: &str = "note_mismatch";
const READ: &str = "get_instance_info";

/// Whoever notes something holds a lease.
pub const LONGEST_NOTE: Duration = Duration::from_secs(2);

impl Server<'_> {
    /// Keeps the report of an instance in place of an earlier one.
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

    /// Why an instance waits, if it does.
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
