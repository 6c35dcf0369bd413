//! The writers: each takes what has gathered, commits it as one transaction, and takes what can go on at once with it.
//!
//! While one commit is on its way to the disk, the next one gathers. An operation is answered when it is on disk, and not before.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use duroxide::providers::{ProviderError, TagFilter, WorkItem};
use sqlx::postgres::PgRow;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout};

use super::batch::{Batch, COLUMNS, Sizes, Taking};
use super::core::{ActivityLane, Core, LeasedActivity, TurnLane};
use super::fate::{Fate, Mark, fate};
use super::histories::History;
use super::leases::{deliver, leases};
use super::link::{ANSWER, Link};
use super::operation::{Operation, TurnEnd, Work};
use super::rows::{self, Answer};
use super::schema::function;
use super::trouble::{failed, passes};

/// More operations than this make no commit cheaper.
const MOST: usize = 64;
/// How long it is asked what became of a commit that was not answered.
const ASKING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

type Queue = Arc<Mutex<mpsc::UnboundedReceiver<Operation>>>;

pub(super) struct Writer {
    core: Arc<Core>,
    link: Link,
    statement: String,
}

/// Why a batch was not committed.
enum Failure {
    /// One of them cannot be recorded.
    Refused(ProviderError),
    /// Nothing was recorded, or what was is found by its lease.
    Passing(ProviderError),
    /// It may have been.
    Unknown(String),
}

/// What one commit was answered.
struct Committed {
    rows: Vec<PgRow>,
    taken: Taken,
}

/// What was meant to be taken with it.
#[derive(Default)]
struct Taken {
    lane: Option<Arc<TurnLane>>,
    targets: Vec<String>,
    /// Whether there were more targets than anybody waits for.
    leaves_turns: bool,
    /// The lanes of the activities that were to be leased, by token.
    activities: HashMap<String, (Arc<ActivityLane>, WorkItem)>,
    leaves_activities: bool,
}

impl Writer {
    pub fn new(core: Arc<Core>) -> Self {
        let columns = (1..=COLUMNS).map(|column| format!("${column}")).collect::<Vec<_>>().join(", ");
        let statement = format!("SELECT * FROM {}({columns})", function(&core.schema, "commit"));
        let link = Link::new(core.pool.clone());
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
    async fn commit(&mut self, mut operations: Vec<Operation>) -> Vec<Vec<Operation>> {
        let again = starts_of_the_same(&mut operations);
        let mut apart = match Batch::of(operations.iter().map(|operation| &operation.work)) {
            Err(error) => set_apart(operations, error),
            Ok((mut batch, sizes)) => match self.try_commit(&mut batch, &operations).await {
                Ok(committed) => {
                    self.finish(operations, &batch, &sizes, committed);
                    Vec::new()
                }
                Err(Failure::Refused(error)) => set_apart(operations, error),
                Err(Failure::Passing(error)) => {
                    for operation in operations {
                        operation.finish(Err(error.clone()));
                    }
                    Vec::new()
                }
                Err(Failure::Unknown(error)) => {
                    for operation in operations {
                        leave_open(operation, &error);
                    }
                    Vec::new()
                }
            },
        };
        if !again.is_empty() {
            apart.push(again);
        }
        apart
    }

    async fn try_commit(&mut self, batch: &mut Batch, operations: &[Operation]) -> Result<Committed, Failure> {
        let operation = name(operations);
        let is_once = operations.iter().any(|operation| operation.work.is_once());
        let taken = self.choose(batch);
        let tokens: Vec<String> = taken.targets.iter().map(|_| self.core.token()).collect();
        let taking = Taking {
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
            (Err(error), Some(rows)) if !matches!(error, sqlx::Error::Database(_)) => {
                match self.find_out(&rows, batch).await {
                    Fate::Made => rows,
                    Fate::NotMade => {
                        let message = format!("the server has not recorded this: {error}; could not serialize access");
                        return Err(Failure::Passing(ProviderError::retryable(operation, message)));
                    }
                    Fate::Unknown | Fate::UnderWay => return Err(Failure::Unknown(error.to_string())),
                }
            }
            (Err(error), _) if passes(&error) => return Err(Failure::Passing(failed(operation, &error))),
            (Err(error), _) => return Err(Failure::Refused(failed(operation, &error))),
        };
        Ok(Committed { rows, taken })
    }

    /// What became of a commit that the server did not answer, as soon as it does.
    async fn find_out(&mut self, rows: &[PgRow], batch: &Batch) -> Fate {
        let Ok(mark) = mark(rows) else { return Fate::Unknown };
        let (starts, items) = batch.sent_once();
        let until = Instant::now() + ASKING;
        while Instant::now() < until {
            match self.ask_after(mark, &starts, &items).await {
                Ok(Fate::UnderWay) | Err(_) => tokio::time::sleep(PAUSE).await,
                Ok(fate) => return fate,
            }
        }
        Fate::Unknown
    }

    async fn ask_after(&mut self, mark: Mark, starts: &[String], items: &[String]) -> Result<Fate, sqlx::Error> {
        let mut connection = self.link.take().await?;
        let outcome = timeout(ANSWER, fate(&mut connection, &self.core.schema, mark, starts, items)).await;
        self.link.put_back(connection, outcome).await
    }

    /// Chooses what this node takes with the commit: what somebody here waits for.
    fn choose(&self, batch: &mut Batch) -> Taken {
        let core = &self.core;
        let mut taking = Taken::default();
        batch.activities.tokens.iter_mut().for_each(|token| *token = None);
        if core.is_bare {
            taking.leaves_turns = !batch.targets.is_empty();
            taking.leaves_activities = !batch.activities.items.is_empty();
            return taking;
        }
        let lanes = core.turn_lanes();
        let lane =
            lanes.into_iter().map(|lane| (lane.demand(super::core::AHEAD), lane)).max_by_key(|(demand, _)| *demand);
        if let Some((demand, lane)) = lane {
            let targets = batch.targets.keys().filter(|target| !core.left.has_left(target));
            taking.targets = targets.take(demand).cloned().collect();
            taking.lane = Some(lane);
        }
        taking.leaves_turns = taking.targets.len() < batch.targets.len();
        let mut lanes: Vec<_> =
            core.activity_lanes().into_iter().map(|lane| (lane.demand(super::core::AHEAD), lane)).collect();
        let scheduled = &mut batch.activities;
        for place in 0..scheduled.items.len() {
            let tag = scheduled.tags[place].as_deref();
            let lane = lanes.iter_mut().find(|(demand, lane)| *demand > 0 && takes(&lane.key, tag));
            match lane {
                Some((demand, lane)) if scheduled.sessions[place].is_none() => {
                    *demand -= 1;
                    let token = core.token();
                    scheduled.tokens[place] = Some(token.clone());
                    taking.activities.insert(token, (Arc::clone(lane), scheduled.items[place].clone()));
                }
                _ => taking.leaves_activities = true,
            }
        }
        taking
    }

    /// Answers everybody, and hands over what was taken.
    fn finish(&self, operations: Vec<Operation>, batch: &Batch, sizes: &Sizes, committed: Committed) {
        let Committed { rows, taken } = committed;
        let read = match Reading::of(&rows) {
            Ok(read) => read,
            Err(error) => {
                let error = failed("commit", &error);
                return operations.into_iter().for_each(|operation| operation.finish(Err(error.clone())));
            }
        };
        let leased: HashSet<&str> = read.leases.iter().map(|lease| lease.instance.as_str()).collect();
        let (mut turn, mut start) = (0, 0);
        for operation in operations {
            let outcome = match &operation.work {
                Work::Turn(end) => {
                    turn += 1;
                    match read.turns.get(&turn) {
                        Some(created_us) => {
                            self.turn_ended(end, *created_us, sizes[turn - 1], &leased);
                            Ok(None)
                        }
                        None => Err(ProviderError::permanent(
                            "ack_orchestration_item",
                            "Invalid lock token: the turn has ended, or its lock expired",
                        )),
                    }
                }
                Work::Activity(end) if read.activities.contains(&end.id) => Ok(None),
                Work::Activity(_) => Err(ProviderError::permanent(
                    "ack_work_item",
                    "the activity was cancelled, or its lock expired (Invalid lock token)",
                )),
                Work::Start(_) => {
                    start += 1;
                    Ok(read.starts.get(&start).cloned())
                }
                Work::Messages(..) | Work::Look(_) => Ok(None),
            };
            operation.finish(outcome);
        }
        self.hand_over(batch, taken, read);
    }

    fn turn_ended(&self, end: &TurnEnd, created_us: Option<i64>, bytes: usize, leased: &HashSet<&str>) {
        let core = &self.core;
        let TurnEnd { token, held, execution, delta, metadata, .. } = end;
        let (instance, execution) = (held.instance.as_str(), i64::try_from(*execution).unwrap_or(i64::MAX));
        if !core.is_bare && end.ran {
            if matches!(metadata.status.as_deref(), Some("Completed" | "Failed")) {
                core.histories.forget(instance);
            } else if held.execution == execution && held.length > 0 {
                core.histories.append(instance, execution, held.length, delta.clone(), bytes);
            } else if let Some(created_us) = created_us.or(held.created_us) {
                let history = History { created_us, execution, events: delta.clone(), bytes };
                core.histories.put(instance, history);
            }
        }
        let says = |event: &duroxide::Event| {
            matches!(
                event.kind,
                duroxide::EventKind::CustomStatusUpdated { .. } | duroxide::EventKind::KeyValueSet { .. }
            )
        };
        if metadata.status.is_some() || delta.iter().any(says) {
            core.outbox.tell_changed(instance);
        }
        // Something came while the turn was held, and its end may not have seen it.
        if core.held.remove(token) && !leased.contains(instance) {
            core.submit_and_forget(Work::Look(instance.to_owned()));
        }
    }

    fn hand_over(&self, batch: &Batch, taken: Taken, read: Reading) {
        let core = &self.core;
        let leased: HashSet<&str> = read.leases.iter().map(|lease| lease.instance.as_str()).collect();
        let mut tells = taken.leaves_turns;
        for (instance, is_sent) in batch.targets.iter().filter(|(instance, _)| !leased.contains(instance.as_str())) {
            // The end of a turn that is held here looks for what has come.
            if !is_sent || core.held.came(instance) {
                continue;
            }
            // Another node holds a turn of it, or one ended here in this moment that did not see it.
            tells = true;
            if taken.targets.contains(instance) {
                core.submit_and_forget(Work::Look(instance.clone()));
            }
        }
        if taken.leaves_turns {
            core.hint_turns();
        }
        if tells {
            core.outbox.tell_turns();
        }
        if let Some(lane) = &taken.lane {
            deliver(core, lane, read.leases);
        }
        let mut activities = taken.activities;
        for (token, id) in read.scheduled {
            if let Some((lane, item)) = activities.remove(&token) {
                lane.offer(LeasedActivity { item, id, token, attempt: 1 });
            }
        }
        if taken.leaves_activities {
            core.hint_activities();
            core.outbox.tell_activities();
        }
        if let Some(delay_ms) = batch.first_delay() {
            core.due_in(delay_ms);
        }
        if !core.outbox.is_empty() {
            core.wanted.notify_one();
        }
    }
}

/// What becomes of a batch that cannot be committed: the others are not to suffer from the one that is to blame.
fn set_apart(mut operations: Vec<Operation>, error: ProviderError) -> Vec<Vec<Operation>> {
    if operations.len() > 1 {
        return operations.into_iter().map(|operation| vec![operation]).collect();
    }
    if let Some(operation) = operations.pop() {
        operation.finish(Err(error));
    }
    Vec::new()
}

/// Takes out the starts whose instance an earlier one of them starts: of two, the first counts.
fn starts_of_the_same(operations: &mut Vec<Operation>) -> Vec<Operation> {
    let mut starting = HashSet::new();
    let mut again = Vec::new();
    let mut place = 0;
    while let Some(operation) = operations.get(place) {
        match &operation.work {
            Work::Start(request) if !starting.insert(request.instance.clone()) => again.push(operations.remove(place)),
            _ => place += 1,
        }
    }
    again
}

/// The next operations, when there are some; `None` when nobody can submit any more.
async fn gather(queue: &Queue) -> Option<Vec<Operation>> {
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

fn name(operations: &[Operation]) -> &'static str {
    match operations.first().map(|operation| &operation.work) {
        Some(Work::Turn(_)) => "ack_orchestration_item",
        Some(Work::Activity(_)) => "ack_work_item",
        Some(Work::Start(_)) => "start_orchestration",
        _ => "enqueue_for_orchestrator",
    }
}

/// Whether a lane takes activities with this tag.
pub(super) fn takes(filter: &TagFilter, tag: Option<&str>) -> bool {
    match (filter, tag) {
        (TagFilter::Any, _) | (TagFilter::DefaultOnly | TagFilter::DefaultAnd(_), None) => true,
        (TagFilter::Tags(tags) | TagFilter::DefaultAnd(tags), Some(tag)) => tags.iter().any(|own| own == tag),
        _ => false,
    }
}

fn mark(rows: &[PgRow]) -> Result<Mark, sqlx::Error> {
    for row in rows.iter().rev().map(Answer) {
        if row.kind()? == rows::TRANSACTION {
            return Ok(Mark { transaction: row.id()?, checkpoint: row.stamp()?.unwrap_or_default() });
        }
    }
    Err(sqlx::Error::RowNotFound)
}

/// Answers where it cannot be told whether it was recorded. Turns and activities find out by their leases.
fn leave_open(operation: Operation, error: &str) {
    let name = "enqueue_for_orchestrator";
    let error = if operation.work.is_once() {
        let message = format!(
            "the server did not say whether it has recorded this: {error}; look at the instance before you send it again"
        );
        ProviderError::permanent(name, message)
    } else {
        ProviderError::retryable(name, error)
    };
    operation.finish(Err(error));
}

/// The answer to a commit.
#[derive(Default)]
struct Reading {
    /// The turns that were ended, by their places, and when their instances were created.
    turns: HashMap<usize, Option<i64>>,
    activities: HashSet<i64>,
    /// What was found in place of starts, by their places: the orchestration that runs.
    starts: HashMap<usize, String>,
    scheduled: Vec<(String, i64)>,
    leases: Vec<super::leases::Lease>,
}

impl Reading {
    fn of(rows: &[PgRow]) -> Result<Self, sqlx::Error> {
        let mut read = Self::default();
        for row in rows.iter().map(Answer) {
            let place = || row.id().map(|id| usize::try_from(id).unwrap_or(0));
            match row.kind()? {
                rows::TURN_ENDED => {
                    read.turns.insert(place()?, row.stamp()?);
                }
                rows::ACTIVITY_ENDED => {
                    read.activities.insert(row.id()?);
                }
                rows::START_FOUND => {
                    let waiting = row.item()?.and_then(|item| serde_json::from_str(&item).ok());
                    let name = row.name()?.or(match waiting {
                        Some(WorkItem::StartOrchestration { orchestration, .. }) => Some(orchestration),
                        _ => None,
                    });
                    read.starts.insert(place()?, name.unwrap_or_default());
                }
                rows::SCHEDULED_ACTIVITY => {
                    if let Ok(token) = row.token() {
                        read.scheduled.push((token, row.id()?));
                    }
                }
                _ => {}
            }
        }
        read.leases = leases(rows)?;
        Ok(read)
    }
}
