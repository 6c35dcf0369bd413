//! Many starts in one transaction.
//!
//! Which ids are taken is decided inside that transaction, under locks that all processes share. When the answer to a commit
//! does not arrive, the server is asked what became of the transaction: nothing is sent twice, and nothing is left out.

use std::collections::HashMap;

use duroxide::providers::WorkItem;
use sqlx::{PgConnection, Postgres, Transaction};

use crate::error::{Result, StoreError};
use crate::failure::Failure;
use crate::postgres::errors::failed;
use crate::postgres::queries::Server;
use crate::postgres::write::in_doubt::{CommitMark, CommitOutcome, fate};
use crate::start::{IfExists, StartOutcome, StartRequest, decide_starts};
use crate::work_item::encode;

/// Starts of one id take the same lock, those that the writers commit too (functions.sql). Few, since a transaction can hold some thousand at most.
const LOCKS: i32 = 64;
/// The space of those locks, apart from that of the provider: "duro".
const LOCK_SPACE: i32 = 0x6475_726f;

const START: &str = "start_orchestration";

/// A transaction whose commit was sent and not answered.
pub struct UnconfirmedStarts {
    mark: CommitMark,
    starts: Vec<String>,
    items: Vec<String>,
    outcomes: Vec<StartOutcome>,
}

impl Server<'_> {
    /// Starts instances, all of them or none; the inner failure is the caller's, and the outer one the database's. Called again
    /// after one of those, it goes on with what is `unheard`.
    pub async fn start_all(
        &self,
        requests: &[StartRequest],
        if_exists: IfExists,
        unheard: &mut Option<UnconfirmedStarts>,
    ) -> Result<Result<Vec<StartOutcome>, StoreError>> {
        if let Some(outcomes) = self.committed(unheard).await? {
            return Ok(Ok(outcomes));
        }
        let mut transaction = self.pool.begin().await.map_err(|error| failed(START, &error))?;
        let mut ids: Vec<&str> = requests.iter().map(|request| request.instance.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        lock(&mut transaction, &ids).await?;
        let existing = self.known(&mut transaction, START, &ids).await?;
        let running = |id: &str| Ok(existing.get(id).map(String::as_str));
        let outcomes = match decide_starts(requests.iter().map(StartRequest::names), if_exists, running) {
            Ok(outcomes) => outcomes,
            Err(error) => return Ok(Err(error)),
        };
        let started = requests.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == StartOutcome::Started);
        let started: Vec<&StartRequest> = started.map(|(request, _)| request).collect();
        self.append(transaction, &started, outcomes, unheard).await.map(Ok)
    }

    /// The orchestration that each of the instances runs, or that a start which is waiting will run.
    ///
    /// One statement, since a start leaves the queue in the transaction that makes the instance.
    pub async fn known(
        &self,
        connection: &mut PgConnection,
        operation: &str,
        ids: &[&str],
    ) -> Result<HashMap<String, String>> {
        let Self { schema, .. } = self;
        let rows: Vec<(String, Option<String>, Option<String>)> = sqlx::query_as(&format!(
            "SELECT instance_id, orchestration_name, NULL FROM \"{schema}\".instances WHERE instance_id = ANY($1) \
             UNION ALL SELECT instance_id, NULL, work_item FROM (SELECT instance_id, work_item FROM \
             \"{schema}\".orchestrator_queue WHERE instance_id = ANY($1) AND work_item LIKE '{{\"StartOrchestration\":%' \
             ORDER BY id) AS waiting"
        ))
        .bind(ids)
        .fetch_all(connection)
        .await
        .map_err(|error| failed(operation, &error))?;
        let mut known = HashMap::with_capacity(rows.len());
        for (id, name, waiting) in rows {
            let name = name.or_else(|| match serde_json::from_str(&waiting?) {
                Ok(WorkItem::StartOrchestration { orchestration, .. }) => Some(orchestration),
                _ => None,
            });
            if let Some(name) = name {
                known.entry(id).or_insert(name);
            }
        }
        Ok(known)
    }

    /// What became of the transaction that is `unheard`: its outcomes if it was committed, `None` if it is to be tried again.
    async fn committed(&self, unheard: &mut Option<UnconfirmedStarts>) -> Result<Option<Vec<StartOutcome>>> {
        let Some(UnconfirmedStarts { mark, starts, items, .. }) = unheard.as_ref() else { return Ok(None) };
        let mut connection = self.pool.acquire().await.map_err(|error| failed(START, &error))?;
        let fate = fate(&mut connection, self.schema, *mark, starts, items).await;
        match fate.map_err(|error| failed(START, &error))? {
            CommitOutcome::UnderWay => Err(Failure::in_doubt(START, "the commit is still under way")),
            CommitOutcome::Made => Ok(unheard.take().map(|unheard| unheard.outcomes)),
            CommitOutcome::NotMade | CommitOutcome::Unknown => {
                *unheard = None;
                Ok(None)
            }
        }
    }

    async fn append(
        &self,
        mut transaction: Transaction<'_, Postgres>,
        started: &[&StartRequest],
        outcomes: Vec<StartOutcome>,
        unheard: &mut Option<UnconfirmedStarts>,
    ) -> Result<Vec<StartOutcome>> {
        if started.is_empty() {
            return Ok(outcomes);
        }
        let starts: Vec<String> = started.iter().map(|&request| request.instance.clone()).collect();
        let messages = started.iter().map(|&request| encode(&request.clone().into_message()));
        let items: Vec<String> = messages.collect::<Result<_, _>>()?;
        let Self { schema, .. } = self;
        // As the provider's own procedure does it, for many: visible from now on.
        let (transaction_id, checkpoint): (i64, i64) = sqlx::query_as(&format!(
            "WITH sent AS (INSERT INTO \"{schema}\".orchestrator_queue (instance_id, work_item, visible_at, created_at) \
             SELECT instance, item, statement_timestamp(), statement_timestamp() \
             FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS message (instance, item, place) ORDER BY place) \
             SELECT txid_current(), (checkpoint_lsn - '0/0')::bigint FROM pg_control_checkpoint()"
        ))
        .bind(&starts)
        .bind(&items)
        .fetch_one(&mut *transaction)
        .await
        .map_err(|error| failed(START, &error))?;
        match transaction.commit().await {
            Ok(()) => Ok(outcomes),
            Err(error) => {
                let mark = CommitMark { transaction: transaction_id, checkpoint };
                *unheard = Some(UnconfirmedStarts { mark, starts, items, outcomes });
                Err(failed(START, &error))
            }
        }
    }
}

async fn lock(transaction: &mut Transaction<'_, Postgres>, ids: &[&str]) -> Result<()> {
    // In one order everywhere, so that nobody waits in a circle.
    sqlx::query(
        "SELECT pg_advisory_xact_lock($2, place) FROM (SELECT DISTINCT hashtext(id) & ($3 - 1) AS place \
         FROM unnest($1::text[]) AS id ORDER BY place OFFSET 0) AS places",
    )
    .bind(ids)
    .bind(LOCK_SPACE)
    .bind(LOCKS)
    .execute(&mut **transaction)
    .await
    .map_err(|error| failed(START, &error))?;
    Ok(())
}
