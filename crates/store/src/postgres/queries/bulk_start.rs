//! Starts many instances in one transaction.
//!
//! The transaction itself decides which instances exist, under locks that all processes share. When the answer to the
//! commit is lost, the store asks the server for the outcome, so no start is made twice, and none is lost.

use std::collections::HashMap;

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
use crate::start::{IfExists, StartOutcome, StartRequest, decide_starts};
use crate::work_item::encode;

const START: &str = "start_orchestration";

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
        let existing = self.orchestrations_of(&mut transaction, START, &ids).await?;
        let running = |id: &str| Ok(existing.get(id).map(String::as_str));
        let outcomes = match decide_starts(requests.iter().map(StartRequest::names), if_exists, running) {
            Ok(outcomes) => outcomes,
            Err(error) => return Ok(Err(error)),
        };
        let started = requests.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == StartOutcome::Started);
        let started: Vec<&StartRequest> = started.map(|(request, _)| request).collect();
        self.append(transaction, &started, outcomes, unconfirmed).await.map(Ok)
    }

    /// The orchestration that each of the instances runs, or that its waiting start will run.
    ///
    /// It is one statement, since a start leaves the queue in the transaction that creates the instance.
    pub async fn orchestrations_of(
        &self,
        connection: &mut PgConnection,
        operation: &str,
        ids: &[&str],
    ) -> Result<HashMap<String, String>> {
        let Self { schema, .. } = self;
        let rows: Vec<(String, Option<String>, Option<String>)> = sqlx::query_as(&format!(
            "SELECT instance_id, orchestration_name, NULL FROM \"{schema}\".instances WHERE instance_id = ANY($1) \
             UNION ALL SELECT instance_id, NULL, work_item FROM (SELECT instance_id, work_item FROM \
             \"{schema}\".orchestrator_queue WHERE instance_id = ANY($1) \
             AND work_item LIKE '{{\"StartOrchestration\":%' \
             ORDER BY id) AS waiting"
        ))
        .bind(ids)
        .fetch_all(connection)
        .await
        .map_err(|error| failed(operation, &error))?;
        let mut orchestrations = HashMap::with_capacity(rows.len());
        for (id, name, waiting) in rows {
            let name = name.or_else(|| match serde_json::from_str(&waiting?) {
                Ok(WorkItem::StartOrchestration { orchestration, .. }) => Some(orchestration),
                _ => None,
            });
            if let Some(name) = name {
                orchestrations.entry(id).or_insert(name);
            }
        }
        Ok(orchestrations)
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
        started: &[&StartRequest],
        outcomes: Vec<StartOutcome>,
        unconfirmed: &mut Option<UnconfirmedStarts>,
    ) -> Result<Vec<StartOutcome>> {
        if started.is_empty() {
            return Ok(outcomes);
        }
        let starts: Vec<String> = started.iter().map(|&request| request.instance.clone()).collect();
        let messages = started.iter().map(|&request| encode(&request.clone().into_message()));
        let items: Vec<String> = messages.collect::<Result<_, _>>()?;
        // By the server's clock, which may differ from that of this process.
        let now = now_ms();
        let delays: Vec<Option<i64>> = started
            .iter()
            .map(|request| request.due_ms.map(|due| i64::try_from(due.saturating_sub(now)).unwrap_or(i64::MAX)))
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
