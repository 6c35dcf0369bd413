//! What stays of a suspended orchestration between two turns, and how it passes from turn to turn.
//!
//! A driver leaves its state in the record of its turn. The acknowledgement of the turn hands it on to the keeper, before
//! anybody can fetch the next one, and takes it back if it fails. Only a history of exactly the expected length, that ends
//! with the last event of that acknowledgement, gets it. So a state is always owned by one party, and what nobody can use
//! any more is dropped.

use std::any::Any;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use duroxide::Event;
use parking_lot::Mutex;

use crate::turn_record::TurnRecord;

/// The state of a driver. It may be dropped on any thread, under any lock: its end must not wait for anything.
pub type DriverState = Box<dyn Any + Send>;

/// The state of an orchestration that was suspended at the end of a turn.
pub struct KeptTurn {
    pub instance: String,
    pub execution_id: u64,
    /// When the execution started; another instance of the same name started at another time.
    pub started_ms: u64,
    /// The time of the last turn: no recorded event is later.
    pub time_ms: u64,
    /// How many recorded events the driver has been told of.
    pub told: usize,
    /// How many events history has if that turn is committed, and nobody else has added any.
    pub length: usize,
    /// The last one of them, which nobody else can have written.
    pub last: Event,
    /// About how much memory the state takes.
    pub bytes: usize,
    pub state: DriverState,
}

impl KeptTurn {
    /// Whether a turn of this execution, on this history, can go on from here.
    pub fn leads_to(&self, execution_id: u64, started_ms: u64, history: &[Event]) -> bool {
        self.execution_id == execution_id
            && self.started_ms == started_ms
            && self.length == history.len()
            && history.last() == Some(&self.last)
    }
}

/// Keeps suspended orchestrations for one runtime.
pub trait Keeper: Send + Sync {
    /// Keeps a turn until it is taken, or as long as there is room.
    fn keep(&self, turn: KeptTurn);

    /// Gives away what is kept of an instance.
    fn take(&self, instance: &str) -> Option<KeptTurn>;
}

/// What a record carries between the keeper and the driver of its turn.
#[derive(Default)]
pub struct SuspendedState {
    before: Mutex<Option<DriverState>>,
    after: Mutex<Option<(DriverState, usize)>>,
    is_resumed: AtomicBool,
    /// Why the state that the driver went on from is of no use.
    stale: OnceLock<String>,
}

impl SuspendedState {
    pub fn from(state: Option<DriverState>) -> Self {
        Self { before: Mutex::new(state), ..Self::default() }
    }
}

impl TurnRecord {
    /// The state that the last turn has left. Without it the driver begins anew.
    pub fn resume(&self) -> Option<DriverState> {
        let state = self.handover.before.lock().take();
        self.handover.is_resumed.store(state.is_some(), Ordering::Relaxed);
        state
    }

    /// Leaves the state that the next turn can go on from, if this one is committed.
    pub fn suspend(&self, state: DriverState, bytes: usize) {
        *self.handover.after.lock() = Some((state, bytes));
    }

    /// Says that the state does not lead to this history: the turn must run again, from the beginning.
    pub fn report_stale(&self, report: String) {
        self.handover.stale.set(report).ok();
    }

    pub fn stale(&self) -> Option<&str> {
        self.handover.stale.get().map(String::as_str)
    }

    /// Whether the driver did not begin anew.
    pub fn is_resumed(&self) -> bool {
        self.handover.is_resumed.load(Ordering::Relaxed)
    }

    /// What the driver has left, if its turn adds these events.
    pub fn left(&self, added: &[Event]) -> Option<KeptTurn> {
        let last = added.last()?.clone();
        let (state, bytes) = self.handover.after.lock().take()?;
        Some(KeptTurn {
            instance: self.instance.clone(),
            execution_id: self.execution_id,
            started_ms: self.started_ms,
            time_ms: self.time_ms,
            told: self.persisted,
            length: self.persisted + added.len(),
            last,
            bytes,
            state,
        })
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
    use crate::{Dispatcher, DispatcherSettings, EngineAdapter, Nondeterminism};

    #[derive(Default)]
    struct Shelf(Mutex<HashMap<String, KeptTurn>>);

    impl Keeper for Shelf {
        fn keep(&self, turn: KeptTurn) {
            self.0.lock().insert(turn.instance.clone(), turn);
        }

        fn take(&self, instance: &str) -> Option<KeptTurn> {
            self.0.lock().remove(instance)
        }
    }

    /// What a handler does that goes on from a kept state.
    #[derive(Clone, Copy)]
    enum Resumed {
        GoesOn,
        SaysItIsStale,
        AsksForSomethingElse,
    }

    #[derive(Default)]
    struct Counts {
        anew: AtomicUsize,
        resumed: AtomicUsize,
    }

    async fn wait_twice(
        engine: OrchestrationContext,
        dispatcher: Arc<Dispatcher>,
        counts: Arc<Counts>,
        resumed: Resumed,
    ) -> Result<String, String> {
        let record = dispatcher.turn().ok_or("no record")?;
        assert_eq!(record.attempt, 1);
        if record.resume().is_some() {
            counts.resumed.fetch_add(1, Ordering::SeqCst);
            match resumed {
                Resumed::GoesOn => {}
                Resumed::SaysItIsStale => record.report_stale("it does not match".to_owned()),
                Resumed::AsksForSomethingElse => return Ok(engine.schedule_wait("other").await),
            }
        } else {
            counts.anew.fetch_add(1, Ordering::SeqCst);
        }
        record.suspend(Box::new("state"), 1);
        let first = engine.schedule_wait("first").await;
        let second = engine.schedule_wait("second").await;
        Ok(first + &second)
    }

    /// Plays an orchestration of three turns, and counts how often it began anew and how often it went on.
    async fn play(resumed: Resumed) -> (usize, usize) {
        let store = EngineAdapter::over(Store::open(StoreTarget::Memory).await.unwrap());
        let dispatcher = store.dispatcher(DispatcherSettings {
            activities: HashSet::new(),
            orchestrations: HashMap::from([("wait_twice".to_owned(), vec![Version::new(1, 0, 0)])]),
            unregistered_timeout: Duration::from_secs(1),
            max_attempts: 10,
            nondeterminism: Nondeterminism::Wait,
            returns_by_name: false,
        });
        let shelf = Arc::new(Shelf::default());
        dispatcher.keep_in(Arc::clone(&shelf) as Arc<dyn Keeper>);
        let counts = Arc::new(Counts::default());
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
        };
        store.store().start(request, IfExists::Raise).await.unwrap();
        for event in ["first", "second"] {
            subscribed(&store, event).await;
            client.raise_event("instance", event, event).await.unwrap();
        }
        let ended = client.wait_for_orchestration("instance", Duration::from_secs(20)).await.unwrap();
        assert!(matches!(ended, OrchestrationStatus::Completed { output, .. } if output == "firstsecond"));
        assert!(shelf.take("instance").is_none());
        dispatcher.stop();
        runtime.shutdown(Some(2000)).await;
        (counts.anew.load(Ordering::SeqCst), counts.resumed.load(Ordering::SeqCst))
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
    async fn a_turn_gets_the_state_that_the_last_one_has_left() {
        assert_eq!(play(Resumed::GoesOn).await, (1, 2));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stale_state_makes_the_turn_begin_anew() {
        assert_eq!(play(Resumed::SaysItIsStale).await, (3, 2));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_mismatch_is_not_believed_before_the_turn_has_begun_anew() {
        assert_eq!(play(Resumed::AsksForSomethingElse).await, (3, 2));
    }
}
