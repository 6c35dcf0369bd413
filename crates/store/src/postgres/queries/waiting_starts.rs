//! Queries for the starts that no turn has read yet. They read the queue, so that a start needs no further row.

use duroxide::providers::WorkItem;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryScalar;
use sqlx::{FromRow, Postgres};

use crate::error::Result;
use crate::postgres::errors::failed;
use crate::postgres::queries::Server;
use crate::postgres::schema::function;
use crate::start::WaitingStart;

/// The condition on a row of the queue `q` that it is a start which no turn has read.
macro_rules! waits {
    () => {
        "q.work_item LIKE '{{\"StartOrchestration\":%' \
         AND NOT EXISTS (SELECT 1 FROM \"{schema}\".instances i WHERE i.instance_id = q.instance_id)"
    };
}

impl Server<'_> {
    /// The start of an instance that no turn has read yet.
    pub async fn waiting_start(&self, instance: &str) -> Result<Option<WaitingStart>> {
        let Self { pool, schema } = self;
        let row: Option<(String, i64, i64)> = sqlx::query_as(&format!(
            concat!(
                "SELECT q.work_item, {in_ms}(q.created_at), {in_ms}(q.visible_at) \
                 FROM \"{schema}\".orchestrator_queue q WHERE q.instance_id = $1 AND ",
                waits!(),
                " ORDER BY q.id LIMIT 1"
            ),
            schema = schema,
            in_ms = function(schema, "in_ms")
        ))
        .bind(instance)
        .fetch_optional(*pool)
        .await
        .map_err(|error| failed("get_instance_info", &error))?;
        Ok(row.and_then(|(message, created_ms, visible_ms)| {
            let message = serde_json::from_str::<WorkItem>(&message).ok()?;
            let [created_ms, visible_ms] = [created_ms, visible_ms].map(|ms| u64::try_from(ms).unwrap_or(0));
            WaitingStart::of(message, created_ms, visible_ms)
        }))
    }

    /// The ids of the instances whose starts no turn has read yet.
    pub async fn waiting_starts(&self) -> Result<Vec<String>> {
        let sql = self.about_waiting("DISTINCT q.instance_id", "");
        self.scalars("list_instances", sqlx::query_scalar(&sql)).await
    }

    /// Which of `instances` have starts that no turn has read yet.
    pub async fn waiting_among(&self, instances: &[String]) -> Result<Vec<String>> {
        let sql = self.about_waiting("DISTINCT q.instance_id", " AND q.instance_id = ANY ($1)");
        self.scalars("list_instances", sqlx::query_scalar(&sql).bind(instances)).await
    }

    /// How many instances have starts that no turn has read yet.
    pub async fn count_waiting_starts(&self) -> Result<u64> {
        let sql = self.about_waiting("pg_catalog.count(DISTINCT q.instance_id)", "");
        let counts: Vec<i64> = self.scalars("get_system_metrics", sqlx::query_scalar(&sql)).await?;
        Ok(counts.first().map_or(0, |count| u64::try_from(*count).unwrap_or(0)))
    }

    /// How many instances have not ended, also those whose starts wait.
    pub async fn count_running(&self) -> Result<u64> {
        let schema = self.schema;
        let waiting = self.about_waiting("pg_catalog.count(DISTINCT q.instance_id)", "");
        let sql = format!(
            "SELECT ({waiting}) + (SELECT count(*) FROM \"{schema}\".executions e JOIN \"{schema}\".instances i \
             ON i.instance_id = e.instance_id AND i.current_execution_id = e.execution_id \
             WHERE e.status NOT IN ('Completed', 'Failed'))"
        );
        let counts: Vec<i64> = self.scalars("get_system_metrics", sqlx::query_scalar(&sql)).await?;
        Ok(counts.first().map_or(0, |count| u64::try_from(*count).unwrap_or(0)))
    }

    /// The sub-orchestrations of `parents` whose starts no turn has read yet.
    pub async fn waiting_children(&self, parents: &[String]) -> Result<Vec<String>> {
        // The server may check the conditions in any order, and only a start has a parent.
        let sql = self.about_waiting(
            "DISTINCT q.instance_id",
            " AND CASE WHEN q.work_item LIKE '{\"StartOrchestration\":%' \
             THEN q.work_item::json #>> '{StartOrchestration,parent_instance}'::text[] END = ANY ($1)",
        );
        self.scalars("list_children", sqlx::query_scalar(&sql).bind(parents)).await
    }

    fn about_waiting(&self, answer: &str, condition: &str) -> String {
        let schema = self.schema;
        let waits = format!(waits!(), schema = schema);
        format!("SELECT {answer} FROM \"{schema}\".orchestrator_queue q WHERE {waits}{condition}")
    }

    async fn scalars<T>(
        &self,
        operation: &'static str,
        query: QueryScalar<'_, Postgres, T, PgArguments>,
    ) -> Result<Vec<T>>
    where
        T: Send + Unpin,
        (T,): for<'row> FromRow<'row, PgRow>,
    {
        query.fetch_all(self.pool).await.map_err(|error| failed(operation, &error))
    }
}
