//! The writers. Each writer takes the operations that have gathered, and commits them as one transaction, which also
//! leases the work that can continue at once.
//!
//! While one commit is on its way to the disk, the operations of the next one gather. The writer answers an operation
//! only when it is on disk.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgRow;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use crate::failure::Failure;
use crate::postgres::connect::dedicated::DedicatedConnection;
use crate::postgres::errors::{failed, is_about_data, is_temporary};
use crate::postgres::fetch::rows;
use crate::postgres::fetch::rows::AnswerRow;
use crate::postgres::node::request::{PendingWrite, WriteRequest};
use crate::postgres::node::state::NodeState;
use crate::postgres::schema::function;
use crate::postgres::write::batch::{Batch, COLUMNS, EagerDemand};
use crate::postgres::write::eager::choose;
use crate::postgres::write::in_doubt::{CommitMark, CommitOutcome, commit_outcome};
use crate::postgres::write::reply::{Committed, finish};

/// The most operations of one batch. More of them would not make a commit cheaper.
const MOST_OPERATIONS: usize = 64;
/// How long the writer asks the server for the outcome of a commit that was not answered.
const LONGEST_INQUIRY: Duration = Duration::from_secs(10);
const INQUIRY_PAUSE: Duration = Duration::from_millis(100);

type Queue = Arc<Mutex<mpsc::UnboundedReceiver<PendingWrite>>>;

pub struct BatchWriter {
    core: Arc<NodeState>,
    dedicated: DedicatedConnection,
    statement: String,
}

/// Why a batch was not committed.
enum WriteFailure {
    /// One of the operations cannot be recorded.
    Refused(Failure),
    /// Nothing was recorded, or the engine finds out by the lease what was.
    Passing(Failure),
    /// The batch may have been committed.
    Unknown(String),
}

impl BatchWriter {
    pub fn new(core: Arc<NodeState>) -> Self {
        let columns = (1..=COLUMNS).map(|column| format!("${column}")).collect::<Vec<_>>().join(", ");
        let statement = format!("SELECT * FROM {}({columns})", function(&core.schema, "commit"));
        let dedicated = DedicatedConnection::new(core.pool.clone(), Arc::clone(&core.isolation), core.moves.clone());
        Self { core, dedicated, statement }
    }

    /// Works until it is aborted, or until no sender of operations is left.
    pub async fn run(mut self, queue: Queue) {
        while let Some(operations) = gather(&queue).await {
            let mut batches = VecDeque::from([operations]);
            while let Some(operations) = batches.pop_front() {
                batches.extend(self.commit(operations).await);
            }
        }
        self.dedicated.close().await;
    }

    /// Commits a batch. Returns the operations that are to be tried in batches apart from the rest.
    async fn commit(&mut self, mut operations: Vec<PendingWrite>) -> Vec<Vec<PendingWrite>> {
        let repeated = take_repeated_starts(&mut operations);
        let mut apart = match Batch::of(operations.iter().map(|operation| &operation.request)) {
            Err(error) => split_failed_batch(operations, error),
            Ok((mut batch, sizes)) => {
                let moves = self.core.moves.count();
                self.core.cancelled.begin(&operations);
                let outcome = self.try_commit(&mut batch, &operations).await;
                self.core.cancelled.end(&operations, outcome.is_ok());
                match outcome {
                    Ok(committed) => {
                        finish(&self.core, operations, &batch, &sizes, committed);
                        self.core.forget_histories_of(moves);
                        Vec::new()
                    }
                    Err(WriteFailure::Refused(error)) => split_failed_batch(operations, error),
                    Err(WriteFailure::Passing(error)) => {
                        for operation in operations {
                            operation.finish(Err(error.clone()));
                        }
                        Vec::new()
                    }
                    Err(WriteFailure::Unknown(error)) => {
                        for operation in operations {
                            answer_in_doubt(operation, &error);
                        }
                        Vec::new()
                    }
                }
            }
        };
        if !repeated.is_empty() {
            apart.push(repeated);
        }
        apart
    }

    async fn try_commit(&mut self, batch: &mut Batch, operations: &[PendingWrite]) -> Result<Committed, WriteFailure> {
        let operation = name(operations);
        let is_once = operations.iter().any(|operation| operation.request.is_once());
        let mut eager = choose(&self.core, batch);
        let tokens: Vec<String> = eager.targets.iter().map(|_| self.core.token()).collect();
        let mut demand = EagerDemand {
            instances: &eager.targets,
            tokens: &tokens,
            lease_ms: eager.queue.as_ref().map_or(0, |queue| queue.lease_ms()),
            versions: eager.queue.as_ref().and_then(|queue| queue.key),
            activity_lease_ms: eager.activities.values().map(|(queue, _)| queue.lease_ms()).max().unwrap_or(0),
        };
        let mut before_commit = None;
        let mut leases_none = false;
        let outcome = match self.call(batch, &demand, is_once, &mut before_commit).await {
            Err(error) if self.core.isolation.is_refused(&error) => {
                self.call(batch, &demand, is_once, &mut before_commit).await
            }
            // The server may have refused a value of a row that the commit was to lease. The poller leases the rest.
            Err(error) if is_about_data(&error) && !demand.instances.is_empty() => {
                leases_none = true;
                (demand.instances, demand.tokens) = (&[], &[]);
                self.call(batch, &demand, is_once, &mut before_commit).await
            }
            outcome => outcome,
        };
        let rows = match (outcome, before_commit) {
            (Ok(_), Some(rows)) | (Ok(rows), None) => rows,
            // COMMIT was sent. A server that shuts down may have made the commit before it reported the shutdown.
            (Err(error), Some(rows)) if is_temporary(&error) => match self.find_outcome(&rows, batch).await {
                CommitOutcome::Made => rows,
                CommitOutcome::NotMade => {
                    let message = format!("the server has not recorded this: {error}");
                    return Err(WriteFailure::Passing(Failure::not_applied(operation, message)));
                }
                CommitOutcome::Unknown | CommitOutcome::UnderWay => {
                    return Err(WriteFailure::Unknown(error.to_string()));
                }
            },
            (Err(error), _) if is_temporary(&error) => return Err(WriteFailure::Passing(failed(operation, &error))),
            (Err(error), _) => return Err(WriteFailure::Refused(failed(operation, &error))),
        };
        if leases_none {
            eager.targets.clear();
            eager.leaves_turns = true;
        }
        Ok(Committed { rows, eager })
    }

    /// Calls the function of the server. If the transaction is begun explicitly, the rows of the answer are stored in
    /// `before_commit` before it ends.
    async fn call(
        &mut self,
        batch: &Batch,
        demand: &EagerDemand<'_>,
        is_once: bool,
        before_commit: &mut Option<Vec<PgRow>>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut connection = self.dedicated.take().await?;
        let outcome = if is_once || self.core.isolation.is_explicit() {
            let commit = batch.commit_explicitly(&mut connection, &self.statement, demand, before_commit);
            self.dedicated.wait(commit).await
        } else {
            self.dedicated.wait(batch.commit(&mut connection, &self.statement, demand)).await
        };
        self.core.pulse.note(outcome.is_ok());
        self.dedicated.put_back(connection, outcome).await
    }

    /// Asks for the outcome of a commit that the server did not answer, until the server answers or the time is up.
    async fn find_outcome(&mut self, rows: &[PgRow], batch: &Batch) -> CommitOutcome {
        let Ok(mark) = mark(rows) else { return CommitOutcome::Unknown };
        let (starts, items) = batch.sent_once();
        let until = Instant::now() + LONGEST_INQUIRY;
        while Instant::now() < until {
            match self.ask_for_outcome(mark, &starts, &items).await {
                Ok(CommitOutcome::UnderWay) | Err(_) => tokio::time::sleep(INQUIRY_PAUSE).await,
                Ok(outcome) => return outcome,
            }
        }
        CommitOutcome::Unknown
    }

    async fn ask_for_outcome(
        &mut self,
        mark: CommitMark,
        starts: &[String],
        items: &[String],
    ) -> Result<CommitOutcome, sqlx::Error> {
        let mut connection = self.dedicated.take().await?;
        let outcome = commit_outcome(&mut connection, &self.core.schema, mark, starts, items);
        let outcome = self.dedicated.wait(outcome).await;
        self.dedicated.put_back(connection, outcome).await
    }
}

/// Splits a batch that cannot be committed into single operations, so that only the operation that is to blame fails.
fn split_failed_batch(mut operations: Vec<PendingWrite>, error: Failure) -> Vec<Vec<PendingWrite>> {
    if operations.len() > 1 {
        return operations.into_iter().map(|operation| vec![operation]).collect();
    }
    if let Some(operation) = operations.pop() {
        operation.finish(Err(error));
    }
    Vec::new()
}

/// Takes out the starts whose instance an earlier start of the batch starts: of two, the first counts.
fn take_repeated_starts(operations: &mut Vec<PendingWrite>) -> Vec<PendingWrite> {
    let mut starting = HashSet::new();
    let mut repeated = Vec::new();
    let mut place = 0;
    while let Some(operation) = operations.get(place) {
        match &operation.request {
            WriteRequest::Start(request) if !starting.insert(request.instance.clone()) => {
                repeated.push(operations.remove(place));
            }
            _ => place += 1,
        }
    }
    repeated
}

/// Waits for the next operations; `None` once no more can be submitted.
async fn gather(queue: &Queue) -> Option<Vec<PendingWrite>> {
    let mut queue = queue.lock().await;
    let mut operations = vec![queue.recv().await?];
    // Tasks that are about to submit an operation do so now.
    tokio::task::yield_now().await;
    while operations.len() < MOST_OPERATIONS {
        match queue.try_recv() {
            Ok(operation) => operations.push(operation),
            Err(_) => break,
        }
    }
    Some(operations)
}

fn name(operations: &[PendingWrite]) -> &'static str {
    match operations.first().map(|operation| &operation.request) {
        Some(WriteRequest::Turn(_)) => "ack_orchestration_item",
        Some(WriteRequest::Activity(_)) => "ack_work_item",
        Some(WriteRequest::Start(_)) => "start_orchestration",
        _ => "enqueue_for_orchestrator",
    }
}

fn mark(rows: &[PgRow]) -> Result<CommitMark, sqlx::Error> {
    for row in rows.iter().rev().map(AnswerRow) {
        if row.kind()? == rows::TRANSACTION {
            return Ok(CommitMark { transaction: row.id()?, checkpoint: row.stamp()?.unwrap_or_default() });
        }
    }
    Err(sqlx::Error::RowNotFound)
}

/// Answers an operation of a commit whose outcome is unknown. For turns and activities the engine finds out by their
/// leases.
fn answer_in_doubt(operation: PendingWrite, error: &str) {
    let name = "enqueue_for_orchestrator";
    let error = if operation.request.is_once() {
        let message = format!(
            "the server did not say whether it has recorded this: {error}; \
             look at the instance before you send it again"
        );
        Failure::refused(name, message)
    } else {
        Failure::in_doubt(name, error)
    };
    operation.finish(Err(error));
}
