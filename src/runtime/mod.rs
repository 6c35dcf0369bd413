//! A runtime: the engine's dispatchers over one store, with the functions that Python registered.

pub(crate) mod options;
pub(crate) mod retention;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use duroxide::OrchestrationRegistry;
use duroxide::runtime::Runtime as EngineRuntime;
use duroxide::runtime::registry::ActivityRegistry;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::activity::Executor;
use crate::boundary;
use crate::boundary::errors::{ConfigurationError, DuroxideError, NotAllowedInOrchestration};
use crate::definitions::{ActivityDefinition, Definitions, OrchestrationDefinition};
use crate::logging;
use crate::native_store::NativeStore;
use crate::orchestration::{StickyCache, run_turn};
use crate::runtime::options::RuntimeOptions;
use crate::runtime::retention::Retention;
use engine_adapter::{Dispatcher, DispatcherSettings, Metrics, SuspendedTurnCache};
use store::Store;

/// How long a shutdown waits, beyond its time, for tasks that it has given up.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);
/// How long a shutdown waits, after the last task, until the leases are given back. The parts have shorter limits.
const LONGEST_GIVING_BACK: Duration = Duration::from_secs(15);

#[pyclass(frozen, name = "Runtime", module = "duroxide._native")]
pub(crate) struct NativeRuntime {
    store: Py<NativeStore>,
    options: RuntimeOptions,
    running: Mutex<Option<Running>>,
    /// The counters of the last run, readable after its end.
    dispatcher: Mutex<Option<Arc<Dispatcher>>>,
}

struct Running {
    store: Store,
    engine: Arc<EngineRuntime>,
    dispatcher: Arc<Dispatcher>,
    executor: Arc<Executor>,
    /// The orchestrations that stay awake between their turns.
    sticky_cache: Option<Arc<StickyCache>>,
    retention: Option<Retention>,
}

#[pymethods]
impl NativeRuntime {
    #[new]
    fn new(store: Py<NativeStore>, options: RuntimeOptions) -> Self {
        Self { store, options, running: Mutex::new(None), dispatcher: Mutex::new(None) }
    }

    fn start(
        &self,
        py: Python<'_>,
        activities: Vec<ActivityDefinition>,
        orchestrations: Vec<OrchestrationDefinition>,
        hosts: HashMap<String, Py<PyAny>>,
        client: Py<PyAny>,
    ) -> PyResult<()> {
        if self.running.lock().is_some() {
            return Err(DuroxideError::new_err(
                "the runtime is running already; shut it down before it is started again",
            ));
        }
        let engine_options = self.options.engine()?;
        let adapter = self.store.get().adapter()?;
        let (cleanup_timeout, is_strict) = (self.options.cleanup_timeout(), self.options.strict());
        let definitions = Arc::new(Definitions::new(activities, orchestrations, cleanup_timeout, is_strict)?);
        let executor = Arc::new(Executor::new(client, hosts));
        let settings = DispatcherSettings {
            activities: definitions.activity_names(),
            orchestrations: definitions.orchestration_versions(),
            unregistered: self.options.unregistered()?,
            max_attempts: self.options.max_attempts(),
            nondeterminism: self.options.nondeterminism()?,
            capacity: self.options.capacity()?,
            node_name: self.options.node_id(),
            returns_by_name: self.options.has_node_id(),
        };
        let dispatcher = adapter.dispatcher(settings);
        let sticky_cache = self.options.sticky_room().map(StickyCache::new).transpose()?;
        if let Some(cache) = &sticky_cache {
            dispatcher.keep_in(Arc::clone(cache) as Arc<dyn SuspendedTurnCache>);
        }
        let activities = activity_registry(&definitions, &dispatcher, &executor);
        let orchestrations = orchestration_registry(&definitions, &dispatcher, sticky_cache.as_ref())?;
        self.options.configure_logging()?;
        let provider = Arc::clone(&dispatcher);
        let store = adapter.store().clone();
        let engine = boundary::block_on(py, async move {
            store.begin_dispatching().await?;
            // The engine starts its dispatchers on the threads of its caller, which must be ours.
            Ok(EngineRuntime::start_with_options(provider, activities, orchestrations, engine_options).await)
        })?;
        let retention = self.options.retention().map(|kept| Retention::start(adapter.clone(), kept)).transpose()?;
        *self.dispatcher.lock() = Some(Arc::clone(&dispatcher));
        *self.running.lock() =
            Some(Running { store: adapter.store().clone(), engine, dispatcher, executor, sticky_cache, retention });
        Ok(())
    }

    fn shutdown(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<()> {
        let Some(mut running) = self.running.lock().take() else {
            return Ok(());
        };
        running.retention = None;
        running.dispatcher.stop();
        let began = Instant::now();
        let ((told, ended), (told_last, given_back)) = (bounded(1), bounded(1));
        let (engine, store, dispatcher) =
            (Arc::clone(&running.engine), running.store.clone(), Arc::clone(&running.dispatcher));
        boundary::spawn(async move {
            engine.shutdown(Some(timeout_ms)).await;
            // After Ctrl-C the receivers are gone.
            told.send(()).ok();
            dispatcher.give_everything_back().await;
            store.end_dispatching().await;
            dispatcher.give_sessions_back().await;
            told_last.send(()).ok();
        })?;
        let longest = Duration::from_millis(timeout_ms).saturating_add(SHUTDOWN_GRACE);
        let waited = boundary::wait(py, &ended, longest).and_then(|has_ended| {
            if has_ended {
                return boundary::wait(py, &given_back, LONGEST_GIVING_BACK).map(drop);
            }
            warn_of_running_code(&running.dispatcher);
            Ok(())
        });
        let rest = longest.saturating_sub(began.elapsed()).max(SHUTDOWN_GRACE);
        let closed = running.sticky_cache.as_ref().map_or(Ok(()), |cache| cache.shut(py, rest));
        running.executor.stop(py)?;
        logging::settle(py);
        waited.and(closed)
    }

    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dispatcher = self.dispatcher.lock().clone();
        let metrics = dispatcher.map_or_else(|| Ok(Metrics::default()), |dispatcher| read_metrics(py, dispatcher))?;
        let fields = PyDict::new(py);
        for (name, value) in metrics.fields() {
            fields.set_item(name, value)?;
        }
        Ok(fields)
    }
}

/// Tells why a runtime did not end in its time.
fn warn_of_running_code(dispatcher: &Dispatcher) {
    if let Some(instance) = dispatcher.instance_with_running_code() {
        tracing::warn!(
            target: "duroxide::runtime",
            instance = %instance,
            "the runtime was left while the code of orchestration instance '{instance}' still ran: it blocks, and belongs \
             into an activity"
        );
    } else {
        tracing::warn!(
            target: "duroxide::runtime",
            "the runtime was left before its tasks had ended, since the store does not answer them"
        );
    }
}

/// Waits for the commits that are under way. On the threads of the engine nothing may wait, so a call there does not.
fn read_metrics(py: Python<'_>, dispatcher: Arc<Dispatcher>) -> PyResult<Metrics> {
    let now = dispatcher.metrics_now();
    match boundary::block_on(py, async move { Ok(dispatcher.metrics().await) }) {
        Err(error) if error.is_instance_of::<NotAllowedInOrchestration>(py) => Ok(now),
        metrics => metrics,
    }
}

fn activity_registry(
    definitions: &Arc<Definitions>,
    dispatcher: &Arc<Dispatcher>,
    executor: &Arc<Executor>,
) -> ActivityRegistry {
    let mut registry = ActivityRegistry::builder();
    for (name, definition) in &definitions.activities {
        let (definition, dispatcher, executor) = (Arc::clone(definition), Arc::clone(dispatcher), Arc::clone(executor));
        registry = registry.register(name, move |context, input| {
            Arc::clone(&executor).run(Arc::clone(&definition), Arc::clone(&dispatcher), context, input)
        });
    }
    registry.build()
}

fn orchestration_registry(
    definitions: &Arc<Definitions>,
    dispatcher: &Arc<Dispatcher>,
    sticky_cache: Option<&Arc<StickyCache>>,
) -> PyResult<OrchestrationRegistry> {
    let mut registry = OrchestrationRegistry::builder();
    for (version, definition) in definitions.orchestrations() {
        let (definition, definitions, dispatcher) =
            (Arc::clone(definition), Arc::clone(definitions), Arc::clone(dispatcher));
        let (name, sticky_cache) = (definition.name.clone(), sticky_cache.cloned());
        registry = registry.register_versioned(name, version.to_string(), move |context, input| {
            let (definition, definitions, dispatcher) =
                (Arc::clone(&definition), Arc::clone(&definitions), Arc::clone(&dispatcher));
            run_turn(context, input, definition, definitions, dispatcher, sticky_cache.clone())
        });
    }
    registry.build_result().map_err(ConfigurationError::new_err)
}
