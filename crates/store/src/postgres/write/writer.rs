//! The writers: each takes what has gathered, commits it as one transaction, and takes what can go on at once with it.
//!
//! While one commit is on its way to the disk, the next one gathers. An operation is answered when it is on disk, and not before.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgRow;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout};

use crate::failure::Failure;
use crate::postgres::connect::dedicated::{ANSWER, DedicatedConnection};
use crate::postgres::errors::{failed, passes};
use crate::postgres::fetch::rows;
use crate::postgres::fetch::rows::AnswerRow;
use crate::postgres::node::request::{PendingWrite, WriteRequest};
use crate::postgres::node::state::NodeState;
use crate::postgres::schema::function;
use crate::postgres::write::batch::{Batch, COLUMNS, EagerDemand};
use crate::postgres::write::eager::choose;
use crate::postgres::write::in_doubt::{CommitMark, CommitOutcome, fate};
use crate::postgres::write::reply::{Committed, finish};

/// More operations than this make no commit cheaper.
const MOST: usize = 64;
/// How long it is asked what became of a commit that was not answered.
const ASKING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

type Queue = Arc<Mutex<mpsc::UnboundedReceiver<PendingWrite>>>;

pub struct BatchWriter {
    core: Arc<NodeState>,
    link: DedicatedConnection,
    statement: String,
}

/// Why a batch was not committed.
enum WriteFailure {
    /// One of them cannot be recorded.
    Refused(Failure),
    /// Nothing was recorded, or what was is found by its lease.
    Passing(Failure),
    /// It may have been.
    Unknown(String),
}

impl BatchWriter {
    pub fn new(core: Arc<NodeState>) -> Self {
        let columns = (1..=COLUMNS).map(|column| format!("${column}")).collect::<Vec<_>>().join(", ");
        let statement = format!("SELECT * FROM {}({columns})", function(&core.schema, "commit"));
        let link = DedicatedConnection::new(core.pool.clone());
        Self { core, link, statement }
    }

    /// Works until nobody is left who could submit anything.
    pub async fn run(mut self, queue: Queue) {
        while let Some(operations) = gather(&queue).await {
            let mut batches = VecDeque::from([operations]);
            while let Some(operations) = batches.pop_front() {
                batches.extend(self.commit(operations).await);
            }
        }
        self.link.close().await;
    }

    /// Commits a batch; what of it is to be tried again apart from the rest.
    async fn commit(&mut self, mut operations: Vec<PendingWrite>) -> Vec<Vec<PendingWrite>> {
        let again = starts_of_the_same(&mut operations);
        let mut apart = match Batch::of(operations.iter().map(|operation| &operation.work)) {
            Err(error) => set_apart(operations, error),
            Ok((mut batch, sizes)) => {
                self.core.cancelled.begin(&operations);
                let outcome = self.try_commit(&mut batch, &operations).await;
                self.core.cancelled.end(&operations, outcome.is_ok());
                match outcome {
                    Ok(committed) => {
                        finish(&self.core, operations, &batch, &sizes, committed);
                        Vec::new()
                    }
                    Err(WriteFailure::Refused(error)) => set_apart(operations, error),
                    Err(WriteFailure::Passing(error)) => {
                        for operation in operations {
                            operation.finish(Err(error.clone()));
                        }
                        Vec::new()
                    }
                    Err(WriteFailure::Unknown(error)) => {
                        for operation in operations {
                            leave_open(operation, &error);
                        }
                        Vec::new()
                    }
                }
            }
        };
        if !again.is_empty() {
            apart.push(again);
        }
        apart
    }

    async fn try_commit(&mut self, batch: &mut Batch, operations: &[PendingWrite]) -> Result<Committed, WriteFailure> {
        let operation = name(operations);
        let is_once = operations.iter().any(|operation| operation.work.is_once());
        let taken = choose(&self.core, batch);
        let tokens: Vec<String> = taken.targets.iter().map(|_| self.core.token()).collect();
        let taking = EagerDemand {
            instances: &taken.targets,
            tokens: &tokens,
            lease_ms: taken.lane.as_ref().map_or(0, |lane| lane.lease_ms()),
            versions: taken.lane.as_ref().and_then(|lane| lane.key),
            activity_lease_ms: taken.activities.values().map(|(lane, _)| lane.lease_ms()).max().unwrap_or(0),
        };
        let mut heard = None;
        let outcome = match self.link.take().await {
            Ok(mut connection) => {
                let outcome = if is_once {
                    timeout(ANSWER, batch.commit_once(&mut connection, &self.statement, &taking, &mut heard)).await
                } else {
                    timeout(ANSWER, batch.commit(&mut connection, &self.statement, &taking)).await
                };
                self.link.put_back(connection, outcome).await
            }
            Err(error) => Err(error),
        };
        let rows = match (outcome, heard) {
            (Ok(_), Some(rows)) | (Ok(rows), None) => rows,
            // The commit was asked for. A server that was told to end may have made it before it said so.
            (Err(error), Some(rows)) if passes(&error) => match self.find_out(&rows, batch).await {
                CommitOutcome::Made => rows,
                CommitOutcome::NotMade => {
                    let message = format!("the server has not recorded this: {error}");
                    return Err(WriteFailure::Passing(Failure::not_applied(operation, message)));
                }
                CommitOutcome::Unknown | CommitOutcome::UnderWay => {
                    return Err(WriteFailure::Unknown(error.to_string()));
                }
            },
            (Err(error), _) if passes(&error) => return Err(WriteFailure::Passing(failed(operation, &error))),
            (Err(error), _) => return Err(WriteFailure::Refused(failed(operation, &error))),
        };
        Ok(Committed { rows, taken })
    }

    /// What became of a commit that the server did not answer, as soon as it does.
    async fn find_out(&mut self, rows: &[PgRow], batch: &Batch) -> CommitOutcome {
        let Ok(mark) = mark(rows) else { return CommitOutcome::Unknown };
        let (starts, items) = batch.sent_once();
        let until = Instant::now() + ASKING;
        while Instant::now() < until {
            match self.ask_after(mark, &starts, &items).await {
                Ok(CommitOutcome::UnderWay) | Err(_) => tokio::time::sleep(PAUSE).await,
                Ok(fate) => return fate,
            }
        }
        CommitOutcome::Unknown
    }

    async fn ask_after(
        &mut self,
        mark: CommitMark,
        starts: &[String],
        items: &[String],
    ) -> Result<CommitOutcome, sqlx::Error> {
        let mut connection = self.link.take().await?;
        let outcome = timeout(ANSWER, fate(&mut connection, &self.core.schema, mark, starts, items)).await;
        self.link.put_back(connection, outcome).await
    }
}

/// What becomes of a batch that cannot be committed: the others are not to suffer from the one that is to blame.
fn set_apart(mut operations: Vec<PendingWrite>, error: Failure) -> Vec<Vec<PendingWrite>> {
    if operations.len() > 1 {
        return operations.into_iter().map(|operation| vec![operation]).collect();
    }
    if let Some(operation) = operations.pop() {
        operation.finish(Err(error));
    }
    Vec::new()
}

/// Takes out the starts whose instance an earlier one of them starts: of two, the first counts.
fn starts_of_the_same(operations: &mut Vec<PendingWrite>) -> Vec<PendingWrite> {
    let mut starting = HashSet::new();
    let mut again = Vec::new();
    let mut place = 0;
    while let Some(operation) = operations.get(place) {
        match &operation.work {
            WriteRequest::Start(request) if !starting.insert(request.instance.clone()) => {
                again.push(operations.remove(place))
            }
            _ => place += 1,
        }
    }
    again
}

/// The next operations, when there are some; `None` when nobody can submit any more.
async fn gather(queue: &Queue) -> Option<Vec<PendingWrite>> {
    let mut queue = queue.lock().await;
    let mut operations = vec![queue.recv().await?];
    // Whoever is about to submit does.
    tokio::task::yield_now().await;
    while operations.len() < MOST {
        match queue.try_recv() {
            Ok(operation) => operations.push(operation),
            Err(_) => break,
        }
    }
    Some(operations)
}

fn name(operations: &[PendingWrite]) -> &'static str {
    match operations.first().map(|operation| &operation.work) {
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

/// Answers where it cannot be told whether it was recorded. Turns and activities find out by their leases.
fn leave_open(operation: PendingWrite, error: &str) {
    let name = "enqueue_for_orchestrator";
    let error = if operation.work.is_once() {
        let message = format!(
            "the server did not say whether it has recorded this: {error}; look at the instance before you send it again"
        );
        Failure::refused(name, message)
    } else {
        Failure::in_doubt(name, error)
    };
    operation.finish(Err(error));
}
