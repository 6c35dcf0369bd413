//! The state that all clients and runtimes of this process share over one opened store.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use duroxide::providers::WorkItem;
use duroxide::{Event, EventKind};
use parking_lot::Mutex;

use crate::running_activities::RunningActivities;
use crate::settings::{DispatcherSettings, Unregistered};
use crate::suspects::Suspects;
use crate::suspended::SuspendedTurnCache;
use crate::waiting_work::{WaitingActivities, WaitingInstances, WaitingWork};
use crate::watch::Watches;
use store::availability::Availability;
use store::backend::Backend;
use store::clock::now_ms;
use store::events::StoreEvents;
use store::history::started;
use store::live::{NodeReport, RuntimeReport};
use store::work_item::target;
use store::{Database, Result};

/// How long a runtime leaves work to the other nodes before it looks at it again.
const PAUSE_FOR_OTHER_NODES: Duration = Duration::from_millis(500);
/// How long a runtime leaves work to the other nodes before it reports that the work waits.
const SILENCE_FOR_OTHER_NODES: Duration = Duration::from_secs(5);
/// How long a runtime leaves work to another runtime of this process.
pub const PAUSE_FOR_OTHER_RUNTIMES: Duration = Duration::from_millis(10);
const MOST_DESCRIPTORS: usize = 10_000;

/// A runtime of this process, for the report of the process.
pub trait RuntimeReporter: Send + Sync {
    /// What the runtime can run; `None` once it is stopped.
    fn report(&self) -> Option<RuntimeReport>;

    /// The name that the user has given to the node.
    fn node_name(&self) -> Option<&str>;
}

/// The name of this process for people.
fn process_name(chosen: Option<&str>) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => std::env::var("HOSTNAME").unwrap_or_else(|_| "process".to_owned()),
        host => host.to_owned(),
    };
    let process = format!("{host}:{}", std::process::id());
    chosen.map_or_else(|| process.clone(), |chosen| format!("{chosen} ({process})"))
}

/// Counts of instances that change without a commit of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    pub running: u64,
    pub waiting_for_code: u64,
}

pub struct ProcessState {
    pub database: Arc<Database>,
    pub watches: Watches,
    pub running_activities: RunningActivities,
    pub waiting: WaitingInstances,
    /// The activities whose code no runtime of this process has.
    pub waiting_activities: WaitingActivities,
    /// The instances whose turns the store refuses until an operator removes the cause.
    pub obstructed: WaitingInstances,
    pub descriptors: Descriptors,
    pub suspects: Suspects,
    /// The settings of the dispatchers that run in this process, which say what each can run.
    registries: Mutex<Vec<Arc<DispatcherSettings>>>,
    /// The runtimes of this process, for its report.
    reporters: Mutex<Vec<Weak<dyn RuntimeReporter>>>,
    /// The caches of suspended turns of the runtimes in this process.
    suspended_caches: Mutex<Vec<Weak<dyn SuspendedTurnCache>>>,
}

/// The state of each database that this process has open, by [`Database::id`].
static STATES: LazyLock<Mutex<HashMap<u64, Weak<ProcessState>>>> = LazyLock::new(Mutex::default);

impl ProcessState {
    /// Returns the state of `database`, which is created at the first call.
    pub fn of(database: &Arc<Database>) -> Arc<Self> {
        let mut states = STATES.lock();
        if let Some(state) = states.get(&database.id()).and_then(Weak::upgrade) {
            return state;
        }
        states.retain(|_, state| state.strong_count() > 0);
        let state = Arc::new(Self {
            database: Arc::clone(database),
            watches: Watches::default(),
            running_activities: RunningActivities::default(),
            waiting: WaitingInstances::default(),
            waiting_activities: WaitingActivities::default(),
            obstructed: WaitingInstances::default(),
            descriptors: Descriptors::default(),
            suspects: Suspects::default(),
            registries: Mutex::default(),
            reporters: Mutex::default(),
            suspended_caches: Mutex::default(),
        });
        states.insert(database.id(), Arc::downgrade(&state));
        drop(states);
        // Only the first call for a database has an effect.
        database.subscribe(Arc::new(Subscription(database.id())));
        state
    }

    /// The state of the database with this number, while a client or a runtime uses it.
    fn in_use(database: u64) -> Option<Arc<Self>> {
        STATES.lock().get(&database)?.upgrade()
    }

    pub fn backend(&self) -> &dyn Backend {
        &*self.database.backend
    }

    pub fn availability(&self) -> &Availability {
        &self.database.availability
    }

    pub fn add_registry(&self, registry: &Arc<DispatcherSettings>) {
        self.registries.lock().push(Arc::clone(registry));
    }

    pub fn remove_registry(&self, registry: &Arc<DispatcherSettings>) {
        self.registries.lock().retain(|other| !Arc::ptr_eq(other, registry));
    }

    pub fn add_reporter(&self, reporter: &Arc<dyn RuntimeReporter>) {
        let mut reporters = self.reporters.lock();
        reporters.retain(|other| other.strong_count() > 0);
        reporters.push(Arc::downgrade(reporter));
    }

    /// What the runtimes of this process can run, and what they run now; `None` without a runtime.
    pub fn report(&self) -> Option<NodeReport> {
        let reporters: Vec<_> = self.reporters.lock().iter().filter_map(Weak::upgrade).collect();
        let runtimes: Vec<_> = reporters.iter().filter_map(|reporter| reporter.report()).collect();
        if runtimes.is_empty() || !self.backend().is_at_work() {
            return None;
        }
        Some(NodeReport {
            id: self.backend().node_id(),
            name: process_name(reporters.iter().find_map(|reporter| reporter.node_name())),
            seen_ms: now_ms(),
            runtimes,
            running: self.running_activities.report(),
            refused: self.obstructed.refusals(),
        })
    }

    /// Whether `can_run` holds for a dispatcher of this process.
    pub fn some_dispatcher(&self, can_run: impl Fn(&DispatcherSettings) -> bool) -> bool {
        self.registries.lock().iter().any(|registry| can_run(registry))
    }

    /// What the store says about its instances now.
    pub async fn gauges(&self) -> Result<Gauges> {
        self.availability().check_open("get_system_metrics")?;
        let backend = self.backend();
        let running = backend.count_running().await?;
        let mut waiting: HashSet<String> = backend.mismatched().await?.into_iter().collect();
        // Before its first turn an instance has no report in every store, so this process says which code it lacks. It
        // does not notice when another process runs the instance.
        let lacking = self.waiting.reported();
        if lacking.iter().any(|instance| !waiting.contains(instance)) {
            let starting: HashSet<String> = backend.waiting_starts().await?.into_iter().collect();
            waiting.extend(lacking.into_iter().filter(|instance| starting.contains(instance)));
        }
        Ok(Gauges { running, waiting_for_code: waiting.len() as u64 })
    }

    /// Decides about work whose code a runtime lacks. `has_it` says that another runtime of this process has the code.
    pub fn without_code<Key, Query>(
        &self,
        waiting: &WaitingWork<Key>,
        key: &Query,
        has_it: bool,
        policy: Unregistered,
    ) -> WithoutCode
    where
        Key: Ord + Borrow<Query>,
        Query: Ord + ToOwned<Owned = Key> + ?Sized,
    {
        // A runtime without the code must not fail work that another one can run, however busy that one is.
        if has_it {
            return WithoutCode::Leave(PAUSE_FOR_OTHER_RUNTIMES);
        }
        let (silence, then) = match policy {
            Unregistered::Wait => (SILENCE_FOR_OTHER_NODES, WithoutCode::Wait),
            Unregistered::Fail { after } => (after, WithoutCode::Fail),
        };
        if !self.backend().traits().has_other_nodes {
            return then;
        }
        match silence.checked_sub(waiting.age(key)).filter(|rest| !rest.is_zero()) {
            Some(rest) => WithoutCode::Leave(rest.min(PAUSE_FOR_OTHER_NODES)),
            None => then,
        }
    }

    pub fn add_suspended_cache(&self, suspended_turns: &Arc<dyn SuspendedTurnCache>) {
        let mut suspended_caches = self.suspended_caches.lock();
        suspended_caches.retain(|other| other.strong_count() > 0);
        suspended_caches.push(Arc::downgrade(suspended_turns));
    }

    pub fn enqueued(&self, message: &WorkItem) {
        self.watches.notify(target(message));
    }

    /// Ends what runs for an instance in this process, since the instance was deleted or terminated.
    pub fn drop_work(&self, instance: &str) {
        self.running_activities.cancel_instance(instance);
        self.waiting.clear(instance);
        self.waiting_activities.clear_for(instance);
        self.obstructed.clear(instance);
        self.descriptors.forget(instance);
        let suspended_caches = self.suspended_caches.lock().clone();
        for suspended_turns in suspended_caches.iter().filter_map(Weak::upgrade) {
            drop(suspended_turns.take(instance));
        }
        self.watches.notify(instance);
    }
}

/// What to do with work whose code a runtime lacks.
pub enum WithoutCode {
    /// Others may run it. The runtime looks again after this time.
    Leave(Duration),
    /// It waits for the code, with a report.
    Wait,
    Fail,
}

/// Passes the events of a database, which it knows by number, on to the state in use. A database that stays open may get a
/// new state after the last user of an earlier one has gone.
struct Subscription(u64);

impl StoreEvents for Subscription {
    fn changed(&self, instance: Option<&str>) {
        let Some(state) = ProcessState::in_use(self.0) else { return };
        match instance {
            Some(instance) => state.watches.notify(instance),
            None => state.watches.notify_all(),
        }
    }

    fn digest_changed(&self, digest: &str) {
        if let Some(state) = ProcessState::in_use(self.0) {
            state.watches.notify_digest(digest);
        }
    }

    fn report(&self) -> Option<NodeReport> {
        ProcessState::in_use(self.0)?.report()
    }

    fn deleted(&self, instance: &str) {
        if let Some(state) = ProcessState::in_use(self.0) {
            state.drop_work(instance);
        }
    }

    fn terminated(&self, instance: &str) {
        if let Some(state) = ProcessState::in_use(self.0) {
            state.drop_work(instance);
        }
    }
}

/// The first event of each instance. The engine reads it for every activity, to get the name, version and execution.
#[derive(Default)]
pub struct Descriptors {
    table: Mutex<HashMap<String, Event>>,
}

impl Descriptors {
    pub fn remember(&self, events: &[Event]) {
        let Some(event) = started(events) else { return };
        let mut table = self.table.lock();
        if table.get(&event.instance_id).is_some_and(|known| known.execution_id == event.execution_id) {
            return;
        }
        if table.len() >= MOST_DESCRIPTORS {
            // The engine reads the others again when it needs them. That is rare, and cheaper than an order of use.
            table.clear();
        }
        let mut event = event.clone();
        if let EventKind::OrchestrationStarted { input, carry_forward_events, .. } = &mut event.kind {
            input.clear();
            *carry_forward_events = None;
        }
        table.insert(event.instance_id.clone(), event);
    }

    pub fn get(&self, instance: &str) -> Option<Event> {
        self.table.lock().get(instance).cloned()
    }

    pub fn forget(&self, instance: &str) {
        self.table.lock().remove(instance);
    }

    pub fn forget_all(&self) {
        self.table.lock().clear();
    }
}
