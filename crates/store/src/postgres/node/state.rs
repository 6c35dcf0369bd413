//! The state of one node, which the tasks of its opened store share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use duroxide::providers::{TagFilter, WorkItem};
use parking_lot::Mutex;
use sqlx::PgPool;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::clock::span_ms;
use crate::error::Result;
use crate::events::StoreEvents;
use crate::failure::Failure;
use crate::policy::StorePolicy;
use crate::postgres::connect::moves::Moves;
use crate::postgres::connect::session::Isolation;
use crate::postgres::errors::failed;
use crate::postgres::node::cancelled_activities::{Cancelled, CancelledActivities};
use crate::postgres::node::held_turns::{LeasedTurn, NodeTurns};
use crate::postgres::node::history_cache::HistoryCache;
use crate::postgres::node::known_messages::MessageCache;
use crate::postgres::node::leases_in_flight::LeasesInFlight;
use crate::postgres::node::left_out::LeftOutRows;
use crate::postgres::node::prefetch::PrefetchQueue;
use crate::postgres::node::pulse::Pulse;
use crate::postgres::node::request::{ExistingOrchestration, PendingWrite, WriteRequest};
use crate::postgres::node::running_activities::RunningActivities;
use crate::postgres::notify::{DigestKey, Notifier};
use crate::postgres::schema::function;
use crate::session_limits::SessionLimits;

/// The lowest and the highest engine version whose turns a runtime can run, each as one number; `None` takes every
/// turn.
pub type Versions = Option<(i64, i64)>;

pub type TurnPrefetchQueue = PrefetchQueue<Versions, LeasedTurn>;
pub type ActivityPrefetchQueue = PrefetchQueue<TagFilter, LeasedActivity>;

/// An activity as the engine gets it.
#[derive(Clone)]
pub struct LeasedActivity {
    pub item: WorkItem,
    pub id: i64,
    pub token: String,
    pub attempt: u32,
}

/// How many items a queue may have beyond those that fetches wait for.
const AHEAD: usize = 32;
/// How long a node that ends waits for leases that are on their way. A lease that comes later ends by itself.
const LONGEST_WAIT_FOR_LEASES: Duration = Duration::from_secs(2);
/// How long a node that ends waits for one answer of the server, if the server has answered before.
const LONGEST_WAIT_FOR_ANSWER: Duration = Duration::from_secs(5);
/// How long a node that ends waits for a sign that the server answers at all.
const LONGEST_WAIT_FOR_SIGN: Duration = Duration::from_secs(1);

pub struct NodeState {
    pub pool: PgPool,
    /// The name without quotes.
    pub schema: String,
    pub isolation: Arc<Isolation>,
    pub moves: Moves,
    /// The random id of this node: the prefix of its tokens, and the sender of its notifications.
    pub node: String,
    pub policy: StorePolicy,
    pub turns: Mutex<Vec<Arc<TurnPrefetchQueue>>>,
    pub activities: Mutex<Vec<Arc<ActivityPrefetchQueue>>>,
    pub held: NodeTurns,
    pub histories: HistoryCache,
    pub known_messages: MessageCache,
    pub left_to_others: LeftToOthers,
    pub left_out: LeftOutRows,
    pub cancelled: CancelledActivities,
    pub running: RunningActivities,
    pub notifier: Notifier,
    /// Wakes the poller.
    pub wanted: Notify,
    /// How many rounds the poller has completed.
    pub rounds: watch::Sender<u64>,
    /// How many batches of histories are being read.
    pub reading: watch::Sender<usize>,
    pub leases_in_flight: LeasesInFlight,
    pub session_limits: SessionLimits,
    pub pulse: Pulse,
    /// How many runtimes work on this store.
    pub dispatching: AtomicUsize,
    /// Gets the changes by other nodes, and reports what this process can run.
    pub events: OnceLock<Arc<dyn StoreEvents>>,
    /// The report of this node has changed, so other nodes must not wait for the next regular one.
    pub must_report: AtomicBool,
    /// When the next message or activity is due that this node knows of.
    due: Mutex<Option<Instant>>,
    /// Whether the notifications of other nodes arrive at present.
    pub is_listening: AtomicBool,
    /// Whether the node has had activities of sessions. Such an activity waits for one slot, and its notification may
    /// arrive while the slot is busy.
    pub has_sessions: AtomicBool,
    operations: mpsc::UnboundedSender<PendingWrite>,
    tokens: AtomicU64,
}

impl NodeState {
    pub fn new(
        pool: PgPool,
        schema: String,
        isolation: Isolation,
        moves: Moves,
        policy: StorePolicy,
        digest_key: Option<DigestKey>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<PendingWrite>) {
        let (operations, receiver) = mpsc::unbounded_channel();
        let node = uuid::Uuid::new_v4().simple().to_string();
        let core = Self {
            pool,
            schema,
            isolation: Arc::new(isolation),
            moves,
            node: node[..16].to_owned(),
            policy,
            turns: Mutex::default(),
            activities: Mutex::default(),
            held: NodeTurns::default(),
            histories: HistoryCache::default(),
            known_messages: MessageCache::default(),
            left_to_others: LeftToOthers::default(),
            left_out: LeftOutRows::default(),
            cancelled: CancelledActivities::default(),
            running: RunningActivities::default(),
            notifier: Notifier::new(digest_key),
            wanted: Notify::new(),
            rounds: watch::channel(0).0,
            reading: watch::channel(0).0,
            leases_in_flight: LeasesInFlight::default(),
            session_limits: SessionLimits::default(),
            pulse: Pulse::default(),
            dispatching: AtomicUsize::new(0),
            events: OnceLock::new(),
            must_report: AtomicBool::new(false),
            due: Mutex::default(),
            is_listening: AtomicBool::new(false),
            has_sessions: AtomicBool::new(false),
            operations,
            tokens: AtomicU64::new(0),
        };
        (Arc::new(core), receiver)
    }

    /// A prefix for tokens that is unique among all nodes.
    pub fn token(&self) -> String {
        format!("{}.{:x}", self.node, self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    /// How many items the node may lease for fetches that will come soon.
    pub fn ahead(&self) -> usize {
        let prefetches = self.policy.prefetch && self.dispatching.load(Ordering::Acquire) > 0;
        if prefetches { AHEAD } else { 0 }
    }

    /// Empties the cache if the store has moved since there were `moves`: the cache may have got events that the server in
    /// use lacks.
    pub fn forget_histories_of(&self, moves: u64) {
        if self.moves.count() != moves {
            self.histories.clear();
        }
    }

    /// Waits, for a limited time, until no lease is on its way to this node or back.
    pub async fn wait_for_leases(&self) {
        let arrived = async {
            self.leases_in_flight.wait_for_all().await;
            let _ = self.reading.subscribe().wait_for(|count| *count == 0).await;
        };
        let _ = tokio::time::timeout(LONGEST_WAIT_FOR_LEASES, arrived).await;
    }

    /// Whether the server answers. If that was not seen lately, this asks it.
    pub async fn answers(&self) -> bool {
        if let Some(answers) = self.pulse.latest() {
            return answers;
        }
        let asked = tokio::time::timeout(LONGEST_WAIT_FOR_SIGN, sqlx::query("SELECT 1").execute(&self.pool)).await;
        let answers = matches!(asked, Ok(Ok(_)));
        self.pulse.note(answers);
        answers
    }

    pub fn turn_prefetch(&self, key: Versions) -> Arc<TurnPrefetchQueue> {
        queue_of(&self.turns, key)
    }

    pub fn activity_prefetch(&self, key: &TagFilter) -> Arc<ActivityPrefetchQueue> {
        queue_of(&self.activities, key.clone())
    }

    pub fn turn_queues(&self) -> Vec<Arc<TurnPrefetchQueue>> {
        self.turns.lock().clone()
    }

    pub fn activity_queues(&self) -> Vec<Arc<ActivityPrefetchQueue>> {
        self.activities.lock().clone()
    }

    /// Whether this node may have leases.
    pub fn has_fetched(&self) -> bool {
        !self.turns.lock().is_empty() || !self.activities.lock().is_empty()
    }

    /// Notes that the server may have turns, and wakes the poller.
    pub fn hint_turns(&self) {
        self.turns.lock().iter().for_each(|queue| queue.hint());
        self.wanted.notify_one();
    }

    /// Notes that the server may have activities, and wakes the poller.
    pub fn hint_activities(&self) {
        self.activities.lock().iter().for_each(|queue| queue.hint());
        self.wanted.notify_one();
    }

    /// Notes that a message or an activity is due in `delay_ms`.
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

    /// Returns whether a message or an activity is due by now, and forgets its time. The caller looks for it.
    pub fn take_due(&self) -> bool {
        let mut due = self.due.lock();
        let is_due = due.is_some_and(|due| due <= Instant::now());
        if is_due {
            *due = None;
        }
        is_due
    }

    /// Commits an operation, together with the others that have gathered, and waits for the answer.
    pub async fn submit(&self, operation: &'static str, request: WriteRequest) -> Result<ExistingOrchestration> {
        let (submitted, answer) = PendingWrite::new(request);
        let closed = || Failure::closed(operation);
        self.operations.send(submitted).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Commits an operation without waiting for the answer.
    pub fn submit_and_forget(self: &Arc<Self>, request: WriteRequest) {
        let (submitted, _) = PendingWrite::new(request);
        let _ = self.operations.send(PendingWrite { lease_in_flight: Some(self.leases_in_flight.add()), ..submitted });
    }

    /// Gives the lease of a turn back. The messages that it had read become visible again after the delay.
    pub async fn give_back_turn(&self, token: &str, delay: Option<Duration>, counts: bool) -> Result<()> {
        const OPERATION: &str = "abandon_orchestration_item";
        let invalid = || Failure::lock_lost(OPERATION, "Invalid lock token: the turn has ended");
        let held = self.held.get(token).ok_or_else(invalid)?;
        let delay_ms = delay.map_or(0, span_ms);
        let statement = format!("SELECT {}($1, $2, $3, $4, $5)", function(&self.schema, "give_back_turn"));
        let giving_back = async {
            sqlx::query_scalar(&statement)
                .bind(&held.instance)
                .bind(token)
                .bind(&held.read)
                .bind(delay_ms)
                .bind(counts)
                .fetch_one(&self.pool)
                .await
                .map_err(|error| failed(OPERATION, &error))
        };
        let given_back: bool = self.moves.answer(OPERATION, giving_back).await?;
        self.held.remove(token);
        if given_back && delay_ms == 0 {
            self.hint_turns();
        } else if given_back {
            self.due_in(delay_ms);
        }
        // This node may lack the code of the turn, so the other nodes look for it at once.
        self.notifier.announce_turns();
        if given_back { Ok(()) } else { Err(invalid()) }
    }

    pub async fn give_back_activity(&self, id: i64, token: &str, delay: Option<Duration>, counts: bool) -> Result<()> {
        const OPERATION: &str = "abandon_work_item";
        self.running.remove(id);
        let delay_ms = delay.map_or(0, span_ms);
        let statement = format!(
            "UPDATE \"{schema}\".worker_queue SET lock_token = NULL, locked_until = NULL, \
             attempt_count = CASE WHEN $4 THEN attempt_count ELSE greatest(0, attempt_count - 1) END, \
             visible_at = CASE WHEN $3 > 0 THEN {time_in_ms}($3) ELSE visible_at END \
             WHERE id = $1 AND lock_token = $2",
            schema = self.schema,
            time_in_ms = function(&self.schema, "time_in_ms")
        );
        let giving_back = async {
            sqlx::query(&statement)
                .bind(id)
                .bind(token)
                .bind(delay_ms)
                .bind(counts)
                .execute(&self.pool)
                .await
                .map_err(|error| failed(OPERATION, &error))
        };
        let given_back = self.moves.answer(OPERATION, giving_back).await?;
        if given_back.rows_affected() == 0 {
            return Err(Failure::lock_lost(
                OPERATION,
                "the activity was cancelled, or its lock expired (Invalid lock token)",
            ));
        }
        if delay_ms == 0 {
            self.hint_activities();
        } else {
            self.due_in(delay_ms);
        }
        self.notifier.announce_activities();
        Ok(())
    }

    /// Gives back every lease that the server has of this node. The node knows no lease whose grant was not answered, and no
    /// lease that it could not give back. Fails if the server does not answer in time.
    pub async fn give_back_everything(&self) -> Result<()> {
        const OPERATION: &str = "give_back";
        for turn in self.turn_queues().iter().flat_map(|queue| queue.take_unwanted(Duration::ZERO)) {
            self.held.remove(&turn.token);
        }
        for queue in self.activity_queues() {
            drop(queue.take_unwanted(Duration::ZERO));
        }
        self.running.clear();
        let schema = &self.schema;
        let statement = format!(
            "WITH turns AS (DELETE FROM \"{schema}\".instance_locks WHERE lock_token LIKE $1 RETURNING 1), \
             activities AS (UPDATE \"{schema}\".worker_queue SET lock_token = NULL, locked_until = NULL, \
             attempt_count = greatest(0, attempt_count - 1) \
             WHERE lock_token IS NOT NULL AND lock_token LIKE $1 RETURNING 1) SELECT (SELECT count(*) FROM turns), (SELECT count(*) FROM activities)"
        );
        let tokens = format!("{}.%", self.node);
        let giving_back = sqlx::query_as::<_, (i64, i64)>(&statement).bind(tokens).fetch_one(&self.pool);
        let Ok(given_back) = tokio::time::timeout(LONGEST_WAIT_FOR_ANSWER, giving_back).await else {
            self.pulse.note(false);
            return Err(Failure::in_doubt(OPERATION, "the server did not answer in time"));
        };
        let (turns, activities) = given_back.map_err(|error| failed(OPERATION, &error))?;
        if turns > 0 {
            self.hint_turns();
            self.notifier.announce_turns();
        }
        if activities > 0 {
            self.hint_activities();
            self.notifier.announce_activities();
        }
        Ok(())
    }

    /// Gives a session back that its slot has got with the lease `token`, unless the slot runs another activity of it.
    pub async fn give_back_session(&self, session: &str, slot: &str, token: &str) -> Result<()> {
        const OPERATION: &str = "release_sessions";
        let schema = &self.schema;
        let statement = format!(
            "DELETE FROM \"{schema}\".sessions s WHERE s.session_id = $1 AND s.worker_id = $2 AND NOT EXISTS (\
             SELECT 1 FROM \"{schema}\".worker_queue w WHERE w.session_id = $1 AND w.lock_token <> $3)"
        );
        let giving_back = async {
            let giving_back = sqlx::query(&statement).bind(session).bind(slot).bind(token).execute(&self.pool);
            giving_back.await.map_err(|error| failed(OPERATION, &error))
        };
        self.moves.answer(OPERATION, giving_back).await.map(|_| ())
    }

    /// Gives the activity back if a turn of this node has cancelled it. Returns whether it did.
    pub fn drop_cancelled(self: &Arc<Self>, activity: &LeasedActivity) -> bool {
        let Some(state) = self.cancelled.state(&activity.item) else { return false };
        let (core, lease_in_flight) = (Arc::clone(self), self.leases_in_flight.add());
        let LeasedActivity { item, id, token, .. } = activity.clone();
        tokio::spawn(async move {
            let _lease_in_flight = lease_in_flight;
            let is_there = core.give_back_activity(id, &token, None, false).await.is_ok();
            if is_there && state == Cancelled::Gone {
                core.cancelled.forget(&item);
            }
        });
        true
    }

    /// Gives back the turns and activities that have waited for a slot longer than these times. If giving back fails,
    /// the lease ends by itself.
    pub async fn give_back_unwanted(self: &Arc<Self>, turns: Duration, activities: Duration) {
        let _lease_in_flight = self.leases_in_flight.add();
        for turn in self.turn_queues().iter().flat_map(|queue| queue.take_unwanted(turns)) {
            let _ = self.give_back_turn(&turn.token, None, false).await;
        }
        for activity in self.activity_queues().iter().flat_map(|queue| queue.take_unwanted(activities)) {
            let _ = self.give_back_activity(activity.id, &activity.token, None, false).await;
        }
    }
}

/// The queue with this key, which is created if it does not exist.
fn queue_of<Key: Clone + PartialEq, Item>(
    queues: &Mutex<Vec<Arc<PrefetchQueue<Key, Item>>>>,
    key: Key,
) -> Arc<PrefetchQueue<Key, Item>> {
    let mut queues = queues.lock();
    if let Some(queue) = queues.iter().find(|queue| queue.key == key) {
        return Arc::clone(queue);
    }
    let queue = Arc::new(PrefetchQueue::new(key));
    queues.push(Arc::clone(&queue));
    queue
}

/// Work that this node lacks the code for. The node ignores it for a while, so that the other nodes can take it at
/// once.
#[derive(Default)]
pub struct LeftToOthers {
    instances: Mutex<HashMap<String, Instant>>,
    activities: Mutex<HashMap<i64, Instant>>,
}

/// The limit for each table. Every look at the server sends its tables.
const MOST_ENTRIES: usize = 1_000;

impl LeftToOthers {
    /// Ignores an instance for `pause`. Returns false if there is no room to remember that.
    pub fn leave_instance(&self, instance: &str, pause: Duration) -> bool {
        insert(&self.instances, instance.to_owned(), pause)
    }

    /// Ignores an activity for `pause`. Returns false if there is no room to remember that.
    pub fn leave_activity(&self, id: i64, pause: Duration) -> bool {
        insert(&self.activities, id, pause)
    }

    pub fn clear(&self) {
        self.instances.lock().clear();
        self.activities.lock().clear();
    }

    pub fn instances(&self) -> Vec<String> {
        unexpired(&self.instances)
    }

    pub fn activities(&self) -> Vec<i64> {
        unexpired(&self.activities)
    }

    pub fn has_left(&self, instance: &str) -> bool {
        let instances = self.instances.lock();
        !instances.is_empty() && instances.get(instance).is_some_and(|until| *until > Instant::now())
    }
}

fn insert<Key: std::hash::Hash + Eq>(table: &Mutex<HashMap<Key, Instant>>, key: Key, pause: Duration) -> bool {
    let mut table = table.lock();
    let now = Instant::now();
    if table.len() >= MOST_ENTRIES {
        table.retain(|_, until| *until > now);
    }
    let has_room = table.len() < MOST_ENTRIES;
    if has_room {
        table.insert(key, now + pause);
    }
    has_room
}

fn unexpired<Key: std::hash::Hash + Eq + Clone>(table: &Mutex<HashMap<Key, Instant>>) -> Vec<Key> {
    let mut table = table.lock();
    if !table.is_empty() {
        let now = Instant::now();
        table.retain(|_, until| *until > now);
    }
    table.keys().cloned().collect()
}
