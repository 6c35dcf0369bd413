//! Reads what the store has recorded of an instance and of an execution. The base provider cannot read each time that a
//! row may hold, for example an infinite one. Here the server bounds the times.

use duroxide::providers::{ExecutionInfo, InstanceInfo};

use crate::error::Result;
use crate::failure::Failure;
use crate::postgres::errors::failed;
use crate::postgres::queries::Server;
use crate::postgres::schema::function;

/// Name, version, current execution, when it was created and updated, status, output, parent.
type InstanceRow = (String, String, i64, i64, i64, String, Option<String>, Option<String>);
/// Status, output, when it began and ended, number of events.
type ExecutionRow = (String, Option<String>, i64, Option<i64>, i64);

impl Server<'_> {
    pub async fn instance_info(&self, instance: &str) -> Result<InstanceInfo> {
        const OPERATION: &str = "get_instance_info";
        let Self { pool, schema } = self;
        let row: Option<InstanceRow> = sqlx::query_as(&format!(
            "SELECT i.orchestration_name, i.orchestration_version, \
             i.current_execution_id, {in_ms}(i.created_at), \
             {in_ms}(coalesce(i.updated_at, i.created_at)), coalesce(e.status, 'Running'), \
             e.output, i.parent_instance_id FROM \"{schema}\".instances i LEFT JOIN \"{schema}\".executions e \
             ON e.instance_id = i.instance_id AND e.execution_id = i.current_execution_id WHERE i.instance_id = $1",
            in_ms = function(schema, "in_ms")
        ))
        .bind(instance)
        .fetch_optional(*pool)
        .await
        .map_err(|error| failed(OPERATION, &error))?;
        let row = row.ok_or_else(|| Failure::not_found(OPERATION, format!("Instance {instance} not found")))?;
        let (name, version, execution, created_ms, updated_ms, status, output, parent) = row;
        Ok(InstanceInfo {
            instance_id: instance.to_owned(),
            orchestration_name: name,
            orchestration_version: version,
            current_execution_id: execution.unsigned_abs(),
            status,
            output,
            created_at: created_ms.unsigned_abs(),
            updated_at: updated_ms.unsigned_abs(),
            parent_instance_id: parent,
        })
    }

    pub async fn execution_info(&self, instance: &str, execution: u64) -> Result<ExecutionInfo> {
        const OPERATION: &str = "get_execution_info";
        let Self { pool, schema } = self;
        let row: Option<ExecutionRow> = sqlx::query_as(&format!(
            "SELECT e.status, e.output, {in_ms}(e.started_at), \
             CASE WHEN e.completed_at IS NOT NULL THEN {in_ms}(e.completed_at) END, \
             (SELECT count(*) FROM \"{schema}\".history h \
             WHERE h.instance_id = e.instance_id AND h.execution_id = e.execution_id) \
             FROM \"{schema}\".executions e WHERE e.instance_id = $1 AND e.execution_id = $2",
            in_ms = function(schema, "in_ms")
        ))
        .bind(instance)
        .bind(execution.cast_signed())
        .fetch_optional(*pool)
        .await
        .map_err(|error| failed(OPERATION, &error))?;
        let missing =
            || Failure::not_found(OPERATION, format!("Execution {execution} not found for instance {instance}"));
        let row = row.ok_or_else(missing)?;
        let (status, output, started_ms, completed_ms, events) = row;
        Ok(ExecutionInfo {
            execution_id: execution,
            status,
            output,
            started_at: started_ms.unsigned_abs(),
            completed_at: completed_ms.map(i64::unsigned_abs),
            event_count: usize::try_from(events).unwrap_or(0),
        })
    }
}
