//! What the tasks of an opened store share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use duroxide::providers::{ProviderError, TagFilter, WorkItem};
use parking_lot::Mutex;
use sqlx::PgPool;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::clock::span_ms;
use crate::error::Result;
use crate::policy::StorePolicy;
use crate::postgres::errors::failed;
use crate::postgres::node::cancelled_activities::{Cancelled, CancelledActivities};
use crate::postgres::node::held_turns::{LeasedTurn, NodeTurns};
use crate::postgres::node::history_cache::HistoryCache;
use crate::postgres::node::prefetch::PrefetchQueue;
use crate::postgres::node::request::{Found, PendingWrite, WriteRequest};
use crate::postgres::notify::Notifier;
use crate::postgres::schema::function;

/// The versions of the engine that can run a turn, lowest and highest, each as one number; `None` takes every turn.
pub type Versions = Option<(i64, i64)>;

pub type TurnQueue = PrefetchQueue<Versions, LeasedTurn>;
pub type ActivityQueue = PrefetchQueue<TagFilter, LeasedActivity>;

/// An activity as the engine is given it.
#[derive(Clone)]
pub struct LeasedActivity {
    pub item: WorkItem,
    pub id: i64,
    pub token: String,
    pub attempt: u32,
}

/// How much is claimed ahead of those who wait.
const AHEAD: usize = 32;
/// A server that takes longer to answer keeps its leases until they end.
const SETTLES: Duration = Duration::from_secs(2);

/// A lease that may be on its way to this node, or back.
pub struct LeaseInFlight(Arc<NodeState>);

impl Drop for LeaseInFlight {
    fn drop(&mut self) {
        self.0.leasing.send_modify(|count| *count -= 1);
    }
}

pub struct NodeState {
    pub pool: PgPool,
    /// Unquoted.
    pub schema: String,
    /// Begins the tokens of this node, and signs its notifications.
    pub node: String,
    pub policy: StorePolicy,
    pub turns: Mutex<Vec<Arc<TurnQueue>>>,
    pub activities: Mutex<Vec<Arc<ActivityQueue>>>,
    pub held: NodeTurns,
    pub histories: HistoryCache,
    pub left: LeftToOthers,
    pub cancelled: CancelledActivities,
    pub outbox: Notifier,
    /// Wakes whoever claims.
    pub wanted: Notify,
    /// How often everything was looked for.
    pub rounds: watch::Sender<u64>,
    /// How many batches of histories are being read.
    pub reading: watch::Sender<usize>,
    /// How many questions are on their way whose answers may be leases, and leases on their way back.
    leasing: watch::Sender<usize>,
    /// How many runtimes work here.
    pub dispatching: AtomicUsize,
    /// When something is due that this node has recorded, if that is before the next look.
    due: Mutex<Option<Instant>>,
    /// Whether what other nodes tell is heard at present.
    pub is_hearing: AtomicBool,
    /// Whether activities of sessions have been seen: they wait for one slot, and the news of them may come while it is busy.
    pub has_sessions: AtomicBool,
    operations: mpsc::UnboundedSender<PendingWrite>,
    tokens: AtomicU64,
}

impl NodeState {
    pub fn new(
        pool: PgPool,
        schema: String,
        policy: StorePolicy,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<PendingWrite>) {
        let (operations, receiver) = mpsc::unbounded_channel();
        let node = uuid::Uuid::new_v4().simple().to_string();
        let core = Self {
            pool,
            schema,
            node: node[..16].to_owned(),
            policy,
            turns: Mutex::default(),
            activities: Mutex::default(),
            held: NodeTurns::default(),
            histories: HistoryCache::default(),
            left: LeftToOthers::default(),
            cancelled: CancelledActivities::default(),
            outbox: Notifier::default(),
            wanted: Notify::new(),
            rounds: watch::channel(0).0,
            reading: watch::channel(0).0,
            leasing: watch::channel(0).0,
            dispatching: AtomicUsize::new(0),
            due: Mutex::default(),
            is_hearing: AtomicBool::new(false),
            has_sessions: AtomicBool::new(false),
            operations,
            tokens: AtomicU64::new(0),
        };
        (Arc::new(core), receiver)
    }

    /// The beginning of tokens that nobody else has.
    pub fn token(&self) -> String {
        format!("{}.{:x}", self.node, self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    /// How much may be claimed for those who will come in a moment.
    pub fn ahead(&self) -> usize {
        let prefetches = self.policy.prefetch && self.dispatching.load(Ordering::Acquire) > 0;
        if prefetches { AHEAD } else { 0 }
    }

    /// Says that a lease may be on its way, until it is dropped.
    pub fn leasing(self: &Arc<Self>) -> LeaseInFlight {
        self.leasing.send_modify(|count| *count += 1);
        LeaseInFlight(Arc::clone(self))
    }

    /// Waits, not for ever, until every lease that was on its way, to this node or back, is there.
    pub async fn settle(&self) {
        let settled = async {
            let _ = self.leasing.subscribe().wait_for(|count| *count == 0).await;
            let _ = self.reading.subscribe().wait_for(|count| *count == 0).await;
        };
        let _ = tokio::time::timeout(SETTLES, settled).await;
    }

    pub fn turn_lane(&self, key: Versions) -> Arc<TurnQueue> {
        lane(&self.turns, key)
    }

    pub fn activity_lane(&self, key: &TagFilter) -> Arc<ActivityQueue> {
        lane(&self.activities, key.clone())
    }

    pub fn turn_lanes(&self) -> Vec<Arc<TurnQueue>> {
        self.turns.lock().clone()
    }

    pub fn activity_lanes(&self) -> Vec<Arc<ActivityQueue>> {
        self.activities.lock().clone()
    }

    /// Something may be on the server for every lane of a kind.
    pub fn hint_turns(&self) {
        self.turns.lock().iter().for_each(|lane| lane.hint());
        self.wanted.notify_one();
    }

    pub fn hint_activities(&self) {
        self.activities.lock().iter().for_each(|lane| lane.hint());
        self.wanted.notify_one();
    }

    /// Something is due in so many milliseconds.
    pub fn due_in(&self, delay_ms: i64) {
        let at = Instant::now() + Duration::from_millis(u64::try_from(delay_ms).unwrap_or(0));
        let mut due = self.due.lock();
        if due.is_none_or(|due| at < due) {
            *due = Some(at);
            self.wanted.notify_one();
        }
    }

    pub fn due(&self) -> Option<Instant> {
        *self.due.lock()
    }

    /// Forgets what was due by now, which is looked for next.
    pub fn take_due(&self) -> bool {
        let mut due = self.due.lock();
        let is_due = due.is_some_and(|due| due <= Instant::now());
        if is_due {
            *due = None;
        }
        is_due
    }

    /// Commits something with what else has gathered.
    pub async fn submit(&self, operation: &'static str, work: WriteRequest) -> Result<Found> {
        let (submitted, answer) = PendingWrite::new(work);
        let closed = || ProviderError::permanent(operation, crate::error::CLOSED);
        self.operations.send(submitted).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Commits something that nobody waits for.
    pub fn submit_and_forget(self: &Arc<Self>, work: WriteRequest) {
        let (submitted, _) = PendingWrite::new(work);
        let _ = self.operations.send(PendingWrite { leasing: Some(self.leasing()), ..submitted });
    }

    /// Gives the lease of a turn back; what it had read is shown again after the delay.
    pub async fn give_back_turn(&self, token: &str, delay: Option<Duration>, counts: bool) -> Result<()> {
        const OPERATION: &str = "abandon_orchestration_item";
        let invalid = || ProviderError::permanent(OPERATION, "Invalid lock token: the turn has ended");
        let held = self.held.get(token).ok_or_else(invalid)?;
        let delay_ms = delay.map_or(0, span_ms);
        let statement = format!("SELECT {}($1, $2, $3, $4, $5)", function(&self.schema, "give_back_turn"));
        let given_back: bool = sqlx::query_scalar(&statement)
            .bind(&held.instance)
            .bind(token)
            .bind(&held.read)
            .bind(delay_ms)
            .bind(counts)
            .fetch_one(&self.pool)
            .await
            .map_err(|error| failed(OPERATION, &error))?;
        self.held.remove(token);
        if given_back && delay_ms == 0 {
            self.hint_turns();
        } else if given_back {
            self.due_in(delay_ms);
        }
        // Its code may not be here: others are to look at it at once.
        self.outbox.tell_turns();
        if given_back { Ok(()) } else { Err(invalid()) }
    }

    pub async fn give_back_activity(&self, id: i64, token: &str, delay: Option<Duration>, counts: bool) -> Result<()> {
        const OPERATION: &str = "abandon_work_item";
        let delay_ms = delay.map_or(0, span_ms);
        let statement = format!(
            "UPDATE \"{}\".worker_queue SET lock_token = NULL, locked_until = NULL, \
             attempt_count = CASE WHEN $4 THEN attempt_count ELSE greatest(0, attempt_count - 1) END, \
             visible_at = CASE WHEN $3 > 0 THEN clock_timestamp() + $3 * interval '1 millisecond' ELSE visible_at END \
             WHERE id = $1 AND lock_token = $2",
            self.schema
        );
        let given_back = sqlx::query(&statement)
            .bind(id)
            .bind(token)
            .bind(delay_ms)
            .bind(counts)
            .execute(&self.pool)
            .await
            .map_err(|error| failed(OPERATION, &error))?;
        if given_back.rows_affected() == 0 {
            return Err(ProviderError::permanent(
                OPERATION,
                "the activity was cancelled, or its lock expired (Invalid lock token)",
            ));
        }
        if delay_ms == 0 {
            self.hint_activities();
        } else {
            self.due_in(delay_ms);
        }
        self.outbox.tell_activities();
        Ok(())
    }

    /// Gives an activity back that a turn of this node has cancelled; whether it has.
    pub fn drop_cancelled(self: &Arc<Self>, activity: &LeasedActivity) -> bool {
        let Some(state) = self.cancelled.state(&activity.item) else { return false };
        let (core, leasing) = (Arc::clone(self), self.leasing());
        let LeasedActivity { item, id, token, .. } = activity.clone();
        tokio::spawn(async move {
            let _leasing = leasing;
            let is_there = core.give_back_activity(id, &token, None, false).await.is_ok();
            if is_there && state == Cancelled::Gone {
                core.cancelled.forget(&item);
            }
        });
        true
    }

    /// Gives back what was claimed and waited longer than so for a slot. What cannot be given back ends with its lease.
    pub async fn give_back_unwanted(self: &Arc<Self>, turns: Duration, activities: Duration) {
        let _leasing = self.leasing();
        for turn in self.turn_lanes().iter().flat_map(|lane| lane.take_unwanted(turns)) {
            let _ = self.give_back_turn(&turn.token, None, false).await;
        }
        for activity in self.activity_lanes().iter().flat_map(|lane| lane.take_unwanted(activities)) {
            let _ = self.give_back_activity(activity.id, &activity.token, None, false).await;
        }
    }
}

fn lane<Key: Clone + PartialEq, Item>(
    lanes: &Mutex<Vec<Arc<PrefetchQueue<Key, Item>>>>,
    key: Key,
) -> Arc<PrefetchQueue<Key, Item>> {
    let mut lanes = lanes.lock();
    if let Some(lane) = lanes.iter().find(|lane| lane.key == key) {
        return Arc::clone(lane);
    }
    let lane = Arc::new(PrefetchQueue::new(key));
    lanes.push(Arc::clone(&lane));
    lane
}

/// What this node lacks the code for, and leaves to the others for a while: they must not have to wait for it.
#[derive(Default)]
pub struct LeftToOthers {
    instances: Mutex<HashMap<String, Instant>>,
    activities: Mutex<HashMap<i64, Instant>>,
}

/// More than this a node has not to remember: it looks again, and leaves it again.
const LEFT: usize = 1_000;

impl LeftToOthers {
    pub fn leave_instance(&self, instance: &str, pause: Duration) {
        leave(&self.instances, instance.to_owned(), pause);
    }

    pub fn leave_activity(&self, id: i64, pause: Duration) {
        leave(&self.activities, id, pause);
    }

    pub fn instances(&self) -> Vec<String> {
        still_left(&self.instances)
    }

    pub fn activities(&self) -> Vec<i64> {
        still_left(&self.activities)
    }

    pub fn has_left(&self, instance: &str) -> bool {
        let instances = self.instances.lock();
        !instances.is_empty() && instances.get(instance).is_some_and(|until| *until > Instant::now())
    }
}

fn leave<Key: std::hash::Hash + Eq>(table: &Mutex<HashMap<Key, Instant>>, key: Key, pause: Duration) {
    let mut table = table.lock();
    if table.len() >= LEFT {
        let now = Instant::now();
        table.retain(|_, until| *until > now);
        if table.len() >= LEFT {
            table.clear();
        }
    }
    table.insert(key, Instant::now() + pause);
}

fn still_left<Key: std::hash::Hash + Eq + Clone>(table: &Mutex<HashMap<Key, Instant>>) -> Vec<Key> {
    let mut table = table.lock();
    if !table.is_empty() {
        let now = Instant::now();
        table.retain(|_, until| *until > now);
    }
    table.keys().cloned().collect()
}
