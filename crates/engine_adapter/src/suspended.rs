//! Suspended turns: the state of a driver between two turns, which a cache holds.
//!
//! A driver leaves its state in the record of its turn. Before the dispatcher commits the turn, and so before the next
//! turn can be fetched, it moves the state into the cache. If the commit fails, it takes the state out again. The next
//! turn gets the state only if the history has exactly the expected length and ends with the last event of that commit.
//! So a state always has one owner, and a state that no turn can use is dropped.

use std::any::Any;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use duroxide::Event;
use parking_lot::Mutex;

/// The state of a driver. It may be dropped on any thread and under any lock, so its `drop` must not wait.
pub type DriverState = Box<dyn Any + Send>;

/// The state of an orchestration that was suspended at the end of a turn.
pub struct SuspendedTurn {
    pub instance: String,
    pub execution_id: u64,
    /// When the execution started; another instance of the same name started at another time.
    pub started_ms: u64,
    /// The time of the last turn: no recorded event is later.
    pub time_ms: u64,
    /// How many recorded events the driver knows.
    pub known_events: usize,
    /// The length of the history if the turn is committed and no other node adds events.
    pub length: usize,
    /// The last event of that history. No other node can have written the same one.
    pub last: Event,
    /// About how much memory the state takes, in bytes.
    pub bytes: usize,
    pub state: DriverState,
}

impl SuspendedTurn {
    /// Whether a turn of this execution, on this history, can continue from this state.
    pub fn fits(&self, execution_id: u64, started_ms: u64, history: &[Event]) -> bool {
        self.execution_id == execution_id
            && self.started_ms == started_ms
            && self.length == history.len()
            && history.last() == Some(&self.last)
    }
}

/// The cache of suspended turns of one runtime.
pub trait SuspendedTurnCache: Send + Sync {
    /// Stores a turn until it is taken. The cache may drop it earlier if it lacks room.
    fn keep(&self, turn: SuspendedTurn);

    /// Takes the suspended turn of an instance out of the cache.
    fn take(&self, instance: &str) -> Option<SuspendedTurn>;
}

/// The part of a record that passes the state between the cache and the driver of the turn.
#[derive(Default)]
pub struct SuspendedState {
    before: Mutex<Option<DriverState>>,
    after: Mutex<Option<(DriverState, usize)>>,
    is_resumed: AtomicBool,
    /// Why the state that the driver continued from does not fit the history.
    stale: OnceLock<String>,
}

impl SuspendedState {
    pub fn from(state: Option<DriverState>) -> Self {
        Self { before: Mutex::new(state), ..Self::default() }
    }

    /// Takes the state that the last turn left. Without it, the driver replays from the beginning.
    pub fn resume(&self) -> Option<DriverState> {
        let state = self.before.lock().take();
        self.is_resumed.store(state.is_some(), Ordering::Relaxed);
        state
    }

    /// Leaves the state from which the next turn can continue, if this turn is committed. `bytes` is about its size.
    pub fn suspend(&self, state: DriverState, bytes: usize) {
        *self.after.lock() = Some((state, bytes));
    }

    /// Takes the state that the driver has left in this turn, and its size in bytes.
    pub fn take_left(&self) -> Option<(DriverState, usize)> {
        self.after.lock().take()
    }

    /// Reports that the state does not fit the history, so that the turn must be replayed from the beginning.
    pub fn report_stale(&self, report: String) {
        self.stale.set(report).ok();
    }

    pub fn stale(&self) -> Option<&str> {
        self.stale.get().map(String::as_str)
    }

    /// Whether the driver continued from a state.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use duroxide::runtime::Runtime;
    use duroxide::runtime::registry::ActivityRegistry;
    use duroxide::{Client, OrchestrationContext, OrchestrationRegistry, OrchestrationStatus, RuntimeOptions};
    use semver::Version;

    use store::start::{IfExists, StartRequest};
    use store::{Store, StoreTarget};

    use super::*;
    use crate::{Capacity, Dispatcher, DispatcherSettings, EngineAdapter, Nondeterminism, Unregistered};

    #[derive(Default)]
    struct TestCache(Mutex<HashMap<String, SuspendedTurn>>);

    impl SuspendedTurnCache for TestCache {
        fn keep(&self, turn: SuspendedTurn) {
            self.0.lock().insert(turn.instance.clone(), turn);
        }

        fn take(&self, instance: &str) -> Option<SuspendedTurn> {
            self.0.lock().remove(instance)
        }
    }

    /// The behaviour of a handler that continues from a suspended turn.
    #[derive(Clone, Copy)]
    enum Resumed {
        Continues,
        ReportsStaleState,
        RequestsAnotherStep,
    }

    #[derive(Default)]
    struct HandlerCounts {
        replayed: AtomicUsize,
        resumed: AtomicUsize,
    }

    async fn wait_twice(
        engine: OrchestrationContext,
        dispatcher: Arc<Dispatcher>,
        counts: Arc<HandlerCounts>,
        resumed: Resumed,
    ) -> Result<String, String> {
        let record = dispatcher.turn().ok_or("no record")?;
        assert_eq!(record.attempt, 1);
        if record.suspended.resume().is_some() {
            counts.resumed.fetch_add(1, Ordering::SeqCst);
            match resumed {
                Resumed::Continues => {}
                Resumed::ReportsStaleState => record.suspended.report_stale("it does not match".to_owned()),
                Resumed::RequestsAnotherStep => return Ok(engine.schedule_wait("other").await),
            }
        } else {
            counts.replayed.fetch_add(1, Ordering::SeqCst);
        }
        record.suspended.suspend(Box::new("state"), 1);
        let first = engine.schedule_wait("first").await;
        let second = engine.schedule_wait("second").await;
        Ok(first + &second)
    }

    /// Runs an orchestration of three turns. Returns how often it replayed from the beginning, and how often it
    /// continued.
    async fn run_three_turns(resumed: Resumed) -> (usize, usize) {
        let store = EngineAdapter::over(Store::open(StoreTarget::Memory).await.unwrap());
        let dispatcher = store.dispatcher(DispatcherSettings {
            activities: HashSet::new(),
            orchestrations: HashMap::from([("wait_twice".to_owned(), vec![Version::new(1, 0, 0)])]),
            unregistered: Unregistered::Wait,
            max_attempts: 10,
            nondeterminism: Nondeterminism::Wait,
            capacity: Capacity::default(),
            node_name: None,
            returns_by_name: false,
        });
        let cache = Arc::new(TestCache::default());
        dispatcher.keep_in(Arc::clone(&cache) as Arc<dyn SuspendedTurnCache>);
        let counts = Arc::new(HandlerCounts::default());
        let (of_handler, counted) = (Arc::clone(&dispatcher), Arc::clone(&counts));
        let registry = OrchestrationRegistry::builder()
            .register("wait_twice", move |engine, _| {
                wait_twice(engine, Arc::clone(&of_handler), Arc::clone(&counted), resumed)
            })
            .build();
        let activities = ActivityRegistry::builder().build();
        let provider = Arc::clone(&dispatcher) as Arc<dyn duroxide::providers::Provider>;
        let runtime = Runtime::start_with_options(provider, activities, registry, RuntimeOptions::default()).await;
        let client = Client::new(store.provider());
        let request = StartRequest {
            instance: "instance".to_owned(),
            orchestration: "wait_twice".to_owned(),
            input: String::new(),
            version: None,
            due_ms: None,
        };
        store.store().start(request, IfExists::Raise).await.unwrap();
        for event in ["first", "second"] {
            subscribed(&store, event).await;
            client.raise_event("instance", event, event).await.unwrap();
        }
        let ended = client.wait_for_orchestration("instance", Duration::from_secs(20)).await.unwrap();
        assert!(matches!(ended, OrchestrationStatus::Completed { output, .. } if output == "firstsecond"));
        assert!(cache.take("instance").is_none());
        dispatcher.stop();
        runtime.shutdown(Some(2000)).await;
        (counts.replayed.load(Ordering::SeqCst), counts.resumed.load(Ordering::SeqCst))
    }

    async fn subscribed(store: &EngineAdapter, event: &str) {
        let mut watch = store.watch("instance");
        let waits = |history: Vec<duroxide::Event>| {
            history
                .iter()
                .any(|each| matches!(&each.kind, duroxide::EventKind::ExternalSubscribed { name } if name == event))
        };
        let found = async {
            while !waits(store.provider().read("instance").await.unwrap()) {
                watch.changed().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_turn_continues_from_the_state_of_the_last_turn() {
        assert_eq!(run_three_turns(Resumed::Continues).await, (1, 2));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stale_state_makes_the_turn_replay_from_the_beginning() {
        assert_eq!(run_three_turns(Resumed::ReportsStaleState).await, (3, 2));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_mismatch_of_a_continued_turn_counts_only_after_a_replay() {
        assert_eq!(run_three_turns(Resumed::RequestsAnotherStep).await, (3, 2));
    }
}
