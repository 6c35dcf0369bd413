//! What all clients and runtimes of one opened store have in common.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use duroxide::providers::{ProviderError, WorkItem};
use duroxide::{Event, EventKind};
use parking_lot::Mutex;

use super::StoreKind;
use super::backend::{Backend, Database};
use super::delivery::Deliveries;
use super::dispatcher::DispatcherSettings;
use super::kept::Keeper;
use super::postgres::Told;
use super::stop::Stop;
use super::watch::Watches;

/// How long work is left to the other nodes before it is looked at again.
const OTHERS_TURN: Duration = Duration::from_millis(500);
/// The same for another runtime of this process.
pub(super) const SIBLINGS_TURN: Duration = Duration::from_millis(10);
const KNOWN_STARTS: usize = 10_000;
const KNOWN_WAITING: usize = 10_000;

pub(super) struct Shared {
    pub backend: Backend,
    /// The store was closed.
    pub stop: Stop,
    pub watches: Watches,
    pub deliveries: Deliveries,
    pub waiting: WaitingInstances,
    pub descriptors: Descriptors,
    /// How many handles are open; the last one closes the database.
    pub openings: AtomicUsize,
    /// What each running dispatcher of this process can run.
    registries: Mutex<Vec<Arc<DispatcherSettings>>>,
    /// Where the runtimes of this process keep suspended orchestrations.
    keepers: Mutex<Vec<Weak<dyn Keeper>>>,
}

impl Shared {
    fn new(backend: Backend) -> Self {
        Self {
            backend,
            stop: Stop::default(),
            watches: Watches::default(),
            deliveries: Deliveries::default(),
            waiting: WaitingInstances::default(),
            descriptors: Descriptors::default(),
            openings: AtomicUsize::new(1),
            registries: Mutex::default(),
            keepers: Mutex::default(),
        }
    }

    /// As [`Self::new`], for a store that tells what other processes change.
    pub fn of_server(backend: Backend) -> Arc<Self> {
        let shared = Arc::new(Self::new(backend));
        if let Database::Postgres(store) = &shared.backend.database {
            store.tell(Arc::new(Learned(Arc::downgrade(&shared))));
        }
        shared
    }

    /// As [`Self::new`], for a store that tells which instances are deleted, by whichever process.
    pub fn of_embedded(backend: Backend) -> Arc<Self> {
        let shared = Arc::new(Self::new(backend));
        if let Database::Embedded(store) = &shared.backend.database {
            let told = Arc::downgrade(&shared);
            store.tell_deletions(move |instance| {
                if let Some(shared) = told.upgrade() {
                    shared.deleted(instance);
                }
            });
        }
        shared
    }

    /// Whether what this process cannot run can be run by nobody else.
    fn alone(&self) -> bool {
        self.backend.kind != StoreKind::Postgres
    }

    pub fn add_registry(&self, registry: &Arc<DispatcherSettings>) {
        self.registries.lock().push(Arc::clone(registry));
    }

    pub fn remove_registry(&self, registry: &Arc<DispatcherSettings>) {
        self.registries.lock().retain(|other| !Arc::ptr_eq(other, registry));
    }

    /// Whether a dispatcher of this process can run something.
    pub fn some_dispatcher(&self, can_run: impl Fn(&DispatcherSettings) -> bool) -> bool {
        self.registries.lock().iter().any(|registry| can_run(registry))
    }

    /// How long what a runtime lacks is left to those that may have it, from when it was first seen as `key`; `None` when
    /// it is to fail now.
    pub fn leave_to_others(&self, key: &str, has_it: bool, timeout: Duration) -> Option<Duration> {
        // However busy it is: its work is not to be failed by those who lack the code.
        if has_it {
            return Some(SIBLINGS_TURN);
        }
        if self.alone() {
            return None;
        }
        let rest = timeout.checked_sub(self.waiting.age(key)).filter(|rest| !rest.is_zero())?;
        Some(rest.min(OTHERS_TURN))
    }

    pub fn add_keeper(&self, keeper: &Arc<dyn Keeper>) {
        let mut keepers = self.keepers.lock();
        keepers.retain(|other| other.strong_count() > 0);
        keepers.push(Arc::downgrade(keeper));
    }

    pub fn enqueued(&self, message: &WorkItem) {
        if let Some(instance) = target(message) {
            self.watches.notify(instance);
        }
    }

    pub fn deleted(&self, instance: &str) {
        self.deliveries.cancel_instance(instance);
        self.waiting.clear(instance);
        self.descriptors.forget(instance);
        let keepers = self.keepers.lock().clone();
        for keeper in keepers.iter().filter_map(Weak::upgrade) {
            drop(keeper.take(instance));
        }
        self.watches.notify(instance);
    }
}

/// What a store learns by itself, for as long as somebody uses it.
struct Learned(Weak<Shared>);

impl Told for Learned {
    fn changed(&self, instance: Option<&str>) {
        let Some(shared) = self.0.upgrade() else { return };
        match instance {
            Some(instance) => shared.watches.notify(instance),
            None => shared.watches.notify_all(),
        }
    }

    fn cut_off(&self, error: &ProviderError) {
        if let Some(shared) = self.0.upgrade() {
            shared.backend.outage_began(error);
        }
    }

    fn answers_again(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.backend.outage_ended();
        }
    }
}

/// The instance that a message is for.
pub(super) fn target(message: &WorkItem) -> Option<&str> {
    match message {
        WorkItem::StartOrchestration { instance, .. }
        | WorkItem::ActivityCompleted { instance, .. }
        | WorkItem::ActivityFailed { instance, .. }
        | WorkItem::TimerFired { instance, .. }
        | WorkItem::ExternalRaised { instance, .. }
        | WorkItem::QueueMessage { instance, .. }
        | WorkItem::CancelInstance { instance, .. }
        | WorkItem::ContinueAsNew { instance, .. } => Some(instance),
        WorkItem::SubOrchCompleted { parent_instance, .. } | WorkItem::SubOrchFailed { parent_instance, .. } => {
            Some(parent_instance)
        }
        WorkItem::ActivityExecute { .. } => None,
    }
}

/// What the engine reads of an instance for every activity: its first event, of which it wants name, version and execution.
#[derive(Default)]
pub(super) struct Descriptors {
    table: Mutex<HashMap<String, Event>>,
}

impl Descriptors {
    pub fn remember(&self, events: &[Event]) {
        let Some(event) = super::turn::started(events) else { return };
        let mut table = self.table.lock();
        if table.get(&event.instance_id).is_some_and(|known| known.execution_id == event.execution_id) {
            return;
        }
        if table.len() >= KNOWN_STARTS {
            // Read again when asked for: rare, and cheaper than an order of use.
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

/// Instances that wait for code that can run them. In this process's memory for now: another process does not see it.
#[derive(Default)]
pub(super) struct WaitingInstances {
    table: Mutex<HashMap<String, Waiting>>,
}

struct Waiting {
    report: Option<String>,
    since: Instant,
    asked: Instant,
    times: u32,
}

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl WaitingInstances {
    /// How long to leave the instance alone, and whether `report` is news.
    pub fn postpone(&self, instance: &str, report: &str) -> (Duration, bool) {
        let mut table = self.table.lock();
        let waiting = table.entry(instance.to_owned()).or_insert_with(Waiting::new);
        let news = waiting.report.as_deref() != Some(report);
        waiting.report = Some(report.to_owned());
        let pause = FIRST_WAIT.saturating_mul(1 << waiting.times.min(6)).min(LONGEST_WAIT);
        waiting.times += 1;
        waiting.asked = Instant::now() + pause;
        (pause, news)
    }

    /// How long something has been asked for that nobody here has.
    pub fn age(&self, key: &str) -> Duration {
        let mut table = self.table.lock();
        // What another node took is never heard of again.
        if table.len() >= KNOWN_WAITING {
            table.retain(|_, waiting| waiting.asked.elapsed() < LONGEST_WAIT);
        }
        let waiting = table.entry(key.to_owned()).or_insert_with(Waiting::new);
        waiting.asked = Instant::now();
        waiting.since.elapsed()
    }

    /// How many instances wait; those that another node has taken on are not asked for any more.
    pub fn count(&self) -> u64 {
        let table = self.table.lock();
        let waits = |waiting: &&Waiting| waiting.report.is_some() && waiting.asked.elapsed() < LONGEST_WAIT;
        table.values().filter(waits).count() as u64
    }

    pub fn report(&self, instance: &str) -> Option<String> {
        self.table.lock().get(instance)?.report.clone()
    }

    pub fn clear(&self, key: &str) {
        let mut table = self.table.lock();
        if !table.is_empty() {
            table.remove(key);
        }
    }
}

impl Waiting {
    fn new() -> Self {
        Self { report: None, since: Instant::now(), asked: Instant::now(), times: 0 }
    }
}
