//! One orchestration under way: what its context, its tasks and its driver share.
//!
//! It lives for one turn of the engine, or, suspended in between, for many: then the engine's context changes under it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};

use duroxide::OrchestrationContext as EngineContext;
use parking_lot::{Mutex, MutexGuard};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;

use crate::boundary::codec::Decode;
use crate::boundary::enter;
use crate::boundary::errors::{NotAllowedInOrchestration, TurnClosed};
use crate::boundary::origin::{Origin, caller};
use crate::definitions::Definitions;
use crate::orchestration::arena::{Arena, Effect};
use crate::orchestration::code_location::code_location;
use crate::orchestration::coroutines::Runner;
use crate::orchestration::event_loop::state::EventLoop;
use crate::orchestration::limits::{TurnInputs, too_much_in_a_turn};
use crate::orchestration::operation::{Node, Operation};
use crate::orchestration::strict::StrictWatch;
use crate::orchestration::timeline::{Moment, Timeline};
use crate::orchestration::trace_function::follow_trace_function;
use engine_adapter::TurnRecord;

thread_local! {
    /// The orchestration whose code runs on this thread.
    static CURRENT: RefCell<Option<Arc<Execution>>> = const { RefCell::new(None) };
}

/// What code sees of time: the moment of the completion that it consumed last.
struct Clock {
    now_ms: u64,
    is_replaying: bool,
    moment: Moment,
}

/// A continue-as-new, and the exception that was raised in the code where it asked for that.
type Continuation = (Arc<Node>, Py<PyBaseException>);

#[expect(clippy::struct_field_names, reason = "`execution_id` is the name of the number everywhere")]
pub(crate) struct Execution {
    pub(crate) instance: String,
    pub(crate) execution_id: u64,
    /// When the execution started.
    pub(crate) started_ms: u64,
    pub(crate) orchestration_name: String,
    pub(crate) orchestration_version: String,
    pub(crate) definitions: Arc<Definitions>,
    arena: Mutex<Arena>,
    clock: Mutex<Clock>,
    /// When each KV entry was last written, as history has it.
    kv_times: Mutex<HashMap<String, u64>>,
    /// As the code has set it: the engine's own copy falls back to the inherited one when history is replayed.
    custom_status: Mutex<Option<String>>,
    /// Every task that was described, to find those that were never started.
    described: Mutex<Vec<Arc<Node>>>,
    /// The tasks made of generators and coroutines, by the address of these, which they keep alive.
    branches: Mutex<HashMap<usize, Arc<Node>>>,
    inputs: Mutex<TurnInputs>,
    /// What runs it, if it is a coroutine.
    pub(crate) event_loop: Mutex<Option<EventLoop>>,
    pub(crate) loop_runs: AtomicBool,
    pub(crate) loop_ended: AtomicBool,
    /// The context that the function of the orchestration was called with.
    context: Mutex<Option<Py<PyAny>>>,
    /// The continue-as-new that the code has asked for, while it leaves the blocks around the call.
    continuation: Mutex<Option<Continuation>>,
    /// The thread that runs the orchestration's code right now.
    running: Mutex<Option<ThreadId>>,
    /// No turn of the engine is under way.
    closed: AtomicBool,
}

impl Execution {
    pub(crate) fn new(engine: EngineContext, record: &TurnRecord, definitions: Arc<Definitions>) -> Arc<Self> {
        let timeline = Timeline::new(record);
        Arc::new(Self {
            instance: record.instance.clone(),
            execution_id: record.execution_id,
            started_ms: record.started_ms,
            orchestration_name: engine.orchestration_name(),
            orchestration_version: engine.orchestration_version(),
            definitions,
            arena: Mutex::new(Arena::new(engine, timeline)),
            clock: Mutex::new(Clock {
                now_ms: record.started_ms,
                is_replaying: record.persisted > 0,
                moment: Moment::BEGINNING,
            }),
            kv_times: Mutex::new(record.kv_times.clone()),
            custom_status: Mutex::new(record.inherited_custom_status.clone()),
            described: Mutex::new(Vec::new()),
            branches: Mutex::new(HashMap::new()),
            inputs: Mutex::default(),
            event_loop: Mutex::new(None),
            loop_runs: AtomicBool::new(false),
            loop_ended: AtomicBool::new(false),
            context: Mutex::new(None),
            continuation: Mutex::new(None),
            running: Mutex::new(None),
            closed: AtomicBool::new(false),
        })
    }

    /// Lets go of the engine until the next turn. Calls that the code makes while it is closed have no effect.
    pub(crate) fn suspend(&self) {
        self.close();
        let idle = EngineContext::new(
            Vec::new(),
            self.execution_id,
            self.instance.clone(),
            self.orchestration_name.clone(),
            self.orchestration_version.clone(),
            None,
        );
        self.arena().suspend(idle);
    }

    /// Continues in a new turn of the engine, which `record` describes.
    pub(crate) fn resume(&self, engine: EngineContext, record: &TurnRecord) {
        self.arena().resume(engine, record);
        self.clock.lock().is_replaying = true;
        self.closed.store(false, Ordering::Relaxed);
    }

    /// The engine's context of this turn, to be read from.
    pub(crate) fn engine(&self) -> EngineContext {
        self.arena().engine().clone()
    }

    /// The arena; never hold it while Python code runs.
    pub(crate) fn arena(&self) -> MutexGuard<'_, Arena> {
        self.arena.lock()
    }

    /// Runs `body`, during which the context may be used on this thread.
    pub(crate) fn run<R>(self: &Arc<Self>, body: impl FnOnce() -> R) -> R {
        enter(follow_trace_function);
        let watch = self.definitions.is_strict.then(StrictWatch::begin);
        *self.running.lock() = Some(thread::current().id());
        let before = CURRENT.replace(Some(Arc::clone(self)));
        let result = body();
        CURRENT.set(before);
        *self.running.lock() = None;
        drop(watch);
        result
    }

    /// The context of the orchestration whose code runs on this thread.
    pub(crate) fn current_context(py: Python<'_>) -> Option<Py<PyAny>> {
        CURRENT
            .with_borrow(|execution| execution.as_ref()?.context.lock().as_ref().map(|context| context.clone_ref(py)))
    }

    /// Whether the code on this thread is another orchestration's, on its event loop.
    pub(crate) fn is_beside_a_running_loop(self: &Arc<Self>) -> bool {
        CURRENT.with_borrow(|execution| {
            execution
                .as_ref()
                .is_some_and(|execution| !Arc::ptr_eq(execution, self) && execution.loop_runs.load(Ordering::Relaxed))
        })
    }

    /// Keeps the context that the orchestration is called with, for `current_context`.
    pub(crate) fn set_context(&self, context: Py<PyAny>) {
        *self.context.lock() = Some(context);
    }

    /// Refuses an effect after the end of the orchestration too, whose history is complete.
    pub(crate) fn check_effect(&self) -> PyResult<()> {
        self.check()?;
        self.check_loop()
    }

    /// Refuses a use of the context after its turn or from elsewhere.
    pub(crate) fn check(&self) -> PyResult<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(TurnClosed::new_err(format!(
                "the context of orchestration '{}' was used after its turn had ended; use ctx only inside the \
                 orchestration, and do not keep it or its tasks elsewhere",
                self.instance
            )));
        }
        if *self.running.lock() != Some(thread::current().id()) {
            return Err(NotAllowedInOrchestration::new_err(format!(
                "the context of orchestration '{}' was used from another thread; an orchestration runs on one thread, \
                 so do threaded work in an activity",
                self.instance
            )));
        }
        Ok(())
    }

    /// The turn is over for the engine: what its code still does is not recorded, and must not be logged.
    pub(crate) fn begin_closing(&self) {
        self.clock.lock().is_replaying = true;
        // The last words of code that is closed between two turns may use the context, as those in a turn.
        self.closed.store(false, Ordering::Relaxed);
    }

    /// If `node` is a continue-as-new, raises in the code that waits for it, so that the blocks around it are left and run
    /// their steps. Code that has caught that and asks once more gets no further.
    pub(crate) fn begin_continuation(&self, py: Python<'_>, node: &Arc<Node>) -> PyResult<()> {
        let mut continuation = self.continuation.lock();
        if !matches!(node.operation, Operation::ContinueAsNew { .. }) || continuation.is_some() {
            return Ok(());
        }
        let exit = TurnClosed::new_err("this execution ends here, and the orchestration continues as new");
        // It is not forgotten.
        node.set_replaced();
        *continuation = Some((Arc::clone(node), exit.clone_ref(py).into_value(py)));
        Err(exit)
    }

    pub(crate) fn take_continuation(&self) -> Option<Continuation> {
        self.continuation.lock().take()
    }

    /// The branches that were described and never started. No code will await their coroutines.
    pub(crate) fn unbegun_branches(&self) -> Vec<Arc<Runner>> {
        let described = self.described.lock();
        let unbegun = described.iter().filter(|node| node.slot().is_none());
        unbegun
            .filter_map(|node| match &node.operation {
                Operation::Branch(runner) => Some(Arc::clone(runner)),
                _ => None,
            })
            .collect()
    }

    /// The task that was made of this generator or coroutine before.
    pub(crate) fn branch_of(&self, runner: &Bound<'_, PyAny>) -> Option<Arc<Node>> {
        self.branches.lock().get(&runner.as_ptr().addr()).cloned()
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// The code continues because of an event that was recorded at `moment`.
    pub(crate) fn consume(&self, moment: Moment) {
        let is_new = self.arena().timeline.is_new(moment);
        let mut clock = self.clock.lock();
        clock.now_ms = clock.now_ms.max(moment.time_ms);
        clock.is_replaying &= !is_new;
        clock.moment = moment;
    }

    /// When what the running code has consumed last was recorded.
    pub(crate) fn moment(&self) -> Moment {
        self.clock.lock().moment
    }

    /// The deterministic time, in milliseconds since the epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.lock().now_ms
    }

    pub(crate) fn is_replaying(&self) -> bool {
        self.clock.lock().is_replaying
    }

    /// Refuses an operation with an input that is too much for the turn.
    pub(crate) fn check_input(&self, operation: &Operation) -> PyResult<()> {
        let sum = self.inputs.lock().add(self.now_ms(), operation.bytes());
        sum.map_err(|bytes| too_much_in_a_turn(&self.orchestration_name, bytes))
    }

    /// Describes an operation; nothing is started.
    pub(crate) fn describe(
        self: &Arc<Self>,
        operation: Operation,
        decode: Decode,
        origin: Option<Origin>,
    ) -> Arc<Node> {
        let mut described = self.described.lock();
        let node = Node::new(operation, decode, origin, described.len());
        if let Operation::Branch(runner) = &node.operation {
            self.branches.lock().insert(runner.address(), Arc::clone(&node));
        }
        described.push(Arc::clone(&node));
        node
    }

    /// The tasks that were described and never started.
    pub(crate) fn forgotten(&self) -> Vec<Arc<Node>> {
        self.described.lock().iter().filter(|node| node.is_forgotten()).cloned().collect()
    }

    /// Breaks the cycle between the turn and its tasks, dropping the engine's futures in start order.
    pub(crate) fn clear(&self) {
        let started = self.arena.lock().take_all();
        drop(started);
        let branches = std::mem::take(&mut *self.branches.lock());
        let described = std::mem::take(&mut *self.described.lock());
        let (context, event_loop) = (self.context.lock().take(), self.event_loop.lock().take());
        drop((branches, described, context, event_loop, self.take_continuation()));
    }

    pub(crate) fn status(&self) -> Option<String> {
        self.custom_status.lock().clone()
    }

    pub(crate) fn set_status(&self, status: Option<String>) {
        self.custom_status.lock().clone_from(&status);
        self.happen(Effect::SetStatus(status));
    }

    pub(crate) fn write_kv(&self, key: &str, value: &str) {
        let recorded_ms = self.happen(Effect::SetValue { key: key.to_owned(), value: value.to_owned() });
        self.kv_times.lock().insert(key.to_owned(), recorded_ms);
    }

    pub(crate) fn clear_kv(&self, key: &str) {
        self.happen(Effect::ClearValue(key.to_owned()));
        self.kv_times.lock().remove(key);
    }

    pub(crate) fn clear_all_kv(&self) {
        self.happen(Effect::ClearValues);
        self.kv_times.lock().clear();
    }

    /// Has an effect, and says when it is recorded. Where history has something else, the line of the code is kept.
    fn happen(&self, effect: Effect) -> u64 {
        let (recorded_ms, lacks_location) = {
            let mut arena = self.arena();
            (arena.happen(effect), arena.lacks_location())
        };
        if lacks_location {
            let location = enter(|py| caller(py).map(|origin| code_location(py, &origin)));
            self.arena().set_location(location);
        }
        recorded_ms
    }

    /// The keys last written before `cutoff_ms`, in key order, so that every replay clears them alike.
    pub(crate) fn keys_written_before(&self, cutoff_ms: u64) -> Vec<String> {
        let times = self.kv_times.lock();
        let mut keys: Vec<String> =
            times.iter().filter(|(_, time_ms)| **time_ms < cutoff_ms).map(|(key, _)| key.clone()).collect();
        keys.sort_unstable();
        keys
    }
}
