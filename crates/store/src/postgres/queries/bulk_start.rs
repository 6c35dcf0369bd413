//! Starts many instances in one transaction.
//!
//! The transaction itself decides which instances exist, under locks that all processes share. When the answer to the
//! commit is lost, the store asks the server for the outcome, so no start is made twice, and none is lost.

use std::collections::HashMap;

use duroxide::INITIAL_EXECUTION_ID;
use duroxide::providers::WorkItem;
use sqlx::{PgConnection, Postgres, Transaction};

use crate::clock::now_ms;
use crate::error::{Result, StoreError};
use crate::failure::Failure;
use crate::postgres::connect::session::begin;
use crate::postgres::errors::failed;
use crate::postgres::queries::Server;
use crate::postgres::schema::function;
use crate::postgres::write::in_doubt::{CommitMark, CommitOutcome, commit_outcome};
use crate::start::{End, ExistingInstance, IfExists, StartOutcome, StartRequest, decide_starts};
use crate::work_item::encode;

const START: &str = "start_orchestration";

/// The id, the orchestration and the status of an instance, or its id and the message of its waiting start.
type ExistingRow = (String, Option<String>, Option<String>, Option<String>);

/// A transaction whose commit was sent but not answered.
pub struct UnconfirmedStarts {
    mark: CommitMark,
    starts: Vec<String>,
    items: Vec<String>,
    outcomes: Vec<StartOutcome>,
}

impl Server<'_> {
    /// Starts instances, all of them or none. The inner error is the caller's, and the outer one is the database's.
    /// After an error of the database, the caller may call this again with the same `unconfirmed`; then it first finds
    /// out what became of the last attempt.
    pub async fn start_all(
        &self,
        requests: &[StartRequest],
        if_exists: IfExists,
        unconfirmed: &mut Option<UnconfirmedStarts>,
    ) -> Result<Result<Vec<StartOutcome>, StoreError>> {
        if let Some(outcomes) = self.confirm(unconfirmed).await? {
            return Ok(Ok(outcomes));
        }
        let mut transaction = begin(self.pool).await.map_err(|error| failed(START, &error))?;
        let mut ids: Vec<&str> = requests.iter().map(|request| request.instance.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let lock = format!("SELECT {}($1)", function(self.schema, "lock_starts"));
        sqlx::query(&lock).bind(&ids).execute(&mut *transaction).await.map_err(|error| failed(START, &error))?;
        let existing = self.existing(&mut transaction, START, &ids).await?;
        let find = |id: &str| Ok(existing.get(id).cloned());
        let outcomes = match decide_starts(requests.iter().map(StartRequest::names), if_exists, find) {
            Ok(outcomes) => outcomes,
            Err(error) => return Ok(Err(error)),
        };
        let restarted = requests.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == StartOutcome::Restarted);
        let restarted: Vec<&str> = restarted.map(|(request, _)| request.instance.as_str()).collect();
        let executions = self.restart(&mut transaction, &restarted).await?;
        let started = requests.iter().zip(&outcomes).filter(|(_, outcome)| **outcome != StartOutcome::Attached);
        let started: Vec<(&StartRequest, u64)> = started
            .map(|(request, _)| {
                let execution = executions.get(&request.instance).copied();
                (request, execution.unwrap_or(INITIAL_EXECUTION_ID))
            })
            .collect();
        self.append(transaction, &started, outcomes, unconfirmed).await.map(Ok)
    }

    /// Begins new executions of instances that have ended, and returns their numbers.
    async fn restart(&self, connection: &mut PgConnection, instances: &[&str]) -> Result<HashMap<String, u64>> {
        if instances.is_empty() {
            return Ok(HashMap::new());
        }
        let Self { schema, .. } = self;
        // The status, the keys and the report of the last execution belong to its history.
        let rows: Vec<(String, i64)> = sqlx::query_as(&format!(
            "WITH restarted AS (\
             UPDATE \"{schema}\".instances i SET current_execution_id = i.current_execution_id + 1, \
             custom_status = NULL, custom_status_version = least(i.custom_status_version, 2147483646) + 1, \
             updated_at = statement_timestamp() \
             FROM \"{schema}\".executions e WHERE i.instance_id = ANY ($1) AND e.instance_id = i.instance_id \
             AND e.execution_id = i.current_execution_id AND e.status IN ('Completed', 'Failed') \
             RETURNING i.instance_id, i.current_execution_id), \
             begun AS (INSERT INTO \"{schema}\".executions (instance_id, execution_id, status, started_at) \
             SELECT instance_id, current_execution_id, 'Running', statement_timestamp() FROM restarted), \
             cleared AS (DELETE FROM \"{schema}\".kv_store k USING restarted r \
             WHERE k.instance_id = r.instance_id), \
             understood AS (DELETE FROM \"{schema}\".python_waiting w USING restarted r \
             WHERE w.instance_id = r.instance_id) \
             SELECT instance_id, current_execution_id FROM restarted"
        ))
        .bind(instances)
        .fetch_all(connection)
        .await
        .map_err(|error| failed(START, &error))?;
        if rows.len() < instances.len() {
            return Err(Failure::not_applied(START, "an instance was deleted at this moment"));
        }
        Ok(rows.into_iter().map(|(id, execution)| (id, execution.unsigned_abs())).collect())
    }

    /// The instances that exist, or whose starts wait.
    ///
    /// It is one statement, since a start leaves the queue in the transaction that creates the instance.
    pub async fn existing(
        &self,
        connection: &mut PgConnection,
        operation: &str,
        ids: &[&str],
    ) -> Result<HashMap<String, ExistingInstance<String>>> {
        let Self { schema, .. } = self;
        let rows: Vec<ExistingRow> = sqlx::query_as(&format!(
            "SELECT i.instance_id, i.orchestration_name, e.status, NULL FROM \"{schema}\".instances i \
             LEFT JOIN \"{schema}\".executions e ON e.instance_id = i.instance_id \
             AND e.execution_id = i.current_execution_id WHERE i.instance_id = ANY($1) \
             UNION ALL SELECT instance_id, NULL, NULL, work_item FROM (SELECT instance_id, work_item FROM \
             \"{schema}\".orchestrator_queue WHERE instance_id = ANY($1) \
             AND work_item LIKE '{{\"StartOrchestration\":%' \
             ORDER BY id) AS waiting"
        ))
        .bind(ids)
        .fetch_all(connection)
        .await
        .map_err(|error| failed(operation, &error))?;
        let mut existing = HashMap::with_capacity(rows.len());
        for (id, name, status, waiting) in rows {
            let name = name.or_else(|| match serde_json::from_str(&waiting?) {
                Ok(WorkItem::StartOrchestration { orchestration, .. }) => Some(orchestration),
                _ => None,
            });
            if let Some(orchestration) = name {
                let end = status.as_deref().and_then(End::of);
                existing.entry(id).or_insert(ExistingInstance { orchestration, end });
            }
        }
        Ok(existing)
    }

    /// Finds out what became of the `unconfirmed` transaction: its outcomes if it was committed, `None` if the caller
    /// is to try again.
    async fn confirm(&self, unconfirmed: &mut Option<UnconfirmedStarts>) -> Result<Option<Vec<StartOutcome>>> {
        let Some(UnconfirmedStarts { mark, starts, items, .. }) = unconfirmed.as_ref() else { return Ok(None) };
        let mut connection = self.pool.acquire().await.map_err(|error| failed(START, &error))?;
        let outcome = commit_outcome(&mut connection, self.schema, *mark, starts, items).await;
        match outcome.map_err(|error| failed(START, &error))? {
            CommitOutcome::UnderWay => Err(Failure::in_doubt(START, "the commit is still under way")),
            CommitOutcome::Made => Ok(unconfirmed.take().map(|unconfirmed| unconfirmed.outcomes)),
            CommitOutcome::NotMade | CommitOutcome::Unknown => {
                *unconfirmed = None;
                Ok(None)
            }
        }
    }

    async fn append(
        &self,
        mut transaction: Transaction<'_, Postgres>,
        started: &[(&StartRequest, u64)],
        outcomes: Vec<StartOutcome>,
        unconfirmed: &mut Option<UnconfirmedStarts>,
    ) -> Result<Vec<StartOutcome>> {
        if started.is_empty() {
            return Ok(outcomes);
        }
        let starts: Vec<String> = started.iter().map(|(request, _)| request.instance.clone()).collect();
        let messages =
            started.iter().map(|(request, execution)| encode(&(*request).clone().into_message_of(*execution)));
        let items: Vec<String> = messages.collect::<Result<_, _>>()?;
        // By the server's clock, which may differ from that of this process.
        let now = now_ms();
        let delays: Vec<Option<i64>> = started
            .iter()
            .map(|(request, _)| request.due_ms.map(|due| i64::try_from(due.saturating_sub(now)).unwrap_or(i64::MAX)))
            .collect();
        let Self { schema, .. } = self;
        // Like the procedure of the base provider, but for many messages.
        let (transaction_id, checkpoint): (i64, i64) = sqlx::query_as(&format!(
            "WITH sent AS \
             (INSERT INTO \"{schema}\".orchestrator_queue (instance_id, work_item, visible_at, created_at) \
             SELECT instance, item, coalesce({in_time}(delay), statement_timestamp()), statement_timestamp() \
             FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS message (instance, item, delay, place) \
             ORDER BY place) \
             SELECT txid_current(), (checkpoint_lsn - '0/0')::bigint FROM pg_control_checkpoint()",
            in_time = function(schema, "time_in_ms")
        ))
        .bind(&starts)
        .bind(&items)
        .bind(&delays)
        .fetch_one(&mut *transaction)
        .await
        .map_err(|error| failed(START, &error))?;
        let mark = CommitMark { transaction: transaction_id, checkpoint };
        // The caller may stop waiting for the answer to the commit.
        *unconfirmed = Some(UnconfirmedStarts { mark, starts, items, outcomes });
        transaction.commit().await.map_err(|error| failed(START, &error))?;
        Ok(unconfirmed.take().map(|confirmed| confirmed.outcomes).unwrap_or_default())
    }
}
