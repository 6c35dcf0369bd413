//! Runs one activity for the engine: calls it on a thread or hands it to its host, records how it ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use duroxide::ActivityContext as EngineContext;
use duroxide::providers::Provider as _;
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::sync::oneshot;

use super::context::ActivityContext;
use super::threads::{Job, Threads};
use crate::definitions::ActivityDefinition;
use crate::errors::CancelledError;
use crate::store::{Delivery, Dispatcher, split_delivery};
use crate::{bridge, codec};

/// The recorded result or failure of an activity.
type End = Result<String, String>;

/// How long an activity that was cut off rests before it runs again: what cut it off may not be over.
const REST: Duration = Duration::from_secs(1);

/// What the activities of one runtime share.
pub(crate) struct Executor {
    pub(crate) threads: Arc<Threads>,
    client: Arc<Py<PyAny>>,
    /// What runs the activities that do not run on our threads, by name: an event loop or a pool, `ActivityHost` in Python.
    hosts: HashMap<String, Py<PyAny>>,
    /// Set when activities are cut off, whose failures are then ours and not theirs.
    is_stopped: AtomicBool,
}

/// By what the engine holds an activity for this process. Both the engine's task and the activity's code hold on to it; when
/// they are gone and no end was given to the engine, it is given back, so that the activity runs again.
struct Lease {
    dispatcher: Arc<Dispatcher>,
    token: String,
    /// The engine has the end.
    is_settled: AtomicBool,
    /// What cut the activity off may not be over: it rests before it runs again, and the attempt counts.
    is_to_rest: AtomicBool,
}

pub(super) struct Call {
    pub(super) definition: Arc<ActivityDefinition>,
    client: Arc<Py<PyAny>>,
    /// Held, not read.
    _lease: Option<Arc<Lease>>,
    engine: EngineContext,
    delivery: Option<Arc<Delivery>>,
    input: String,
}

impl Executor {
    pub(crate) fn new(client: Py<PyAny>, hosts: HashMap<String, Py<PyAny>>) -> Self {
        Self { threads: Arc::new(Threads::new()), client: Arc::new(client), hosts, is_stopped: AtomicBool::new(false) }
    }

    /// Ends the threads and the hosts after their work in hand.
    pub(crate) fn stop(&self, py: Python<'_>) -> PyResult<()> {
        self.is_stopped.store(true, Ordering::Release);
        py.detach(|| self.threads.stop());
        // One that is stopped twice does not mind.
        self.hosts.values().try_for_each(|host| host.bind(py).call_method0(intern!(py, "stop")).map(drop))
    }

    /// Runs an activity to its end.
    pub(crate) async fn run(
        self: Arc<Self>,
        definition: Arc<ActivityDefinition>,
        dispatcher: Arc<Dispatcher>,
        engine: EngineContext,
        input: String,
    ) -> End {
        let (delivery, lease, input) = match split_delivery(&input) {
            Some((token, input)) => {
                let lease = Lease {
                    dispatcher: Arc::clone(&dispatcher),
                    token: token.to_owned(),
                    is_settled: AtomicBool::new(false),
                    is_to_rest: AtomicBool::new(false),
                };
                (dispatcher.delivery(token), Some(Arc::new(lease)), input.to_owned())
            }
            None => (None, None, input),
        };
        let host = self.hosts.contains_key(&definition.name);
        let call =
            Call { definition, client: Arc::clone(&self.client), _lease: lease.clone(), engine, delivery, input };
        let end = if host { Arc::clone(&self).run_on_host(call).await } else { self.run_on_thread(call).await };
        let is_stopped = self.is_stopped.load(Ordering::Acquire);
        match end {
            Some(end) if end.is_ok() || !is_stopped => {
                if let Some(lease) = lease {
                    lease.is_settled.store(true, Ordering::Release);
                }
                end
            }
            // It was cut off, which is not its failure: it runs again, and the engine gives this task up.
            _ => {
                if let Some(lease) = lease {
                    lease.is_to_rest.store(!is_stopped, Ordering::Release);
                }
                std::future::pending().await
            }
        }
    }

    async fn run_on_thread(&self, call: Call) -> Option<End> {
        let (ending, receiver) = Ending::new(call);
        if let Err(error) = self.threads.run(Job::Call(ending)) {
            return Some(Err(error));
        }
        receiver.await.ok()
    }

    async fn run_on_host(self: Arc<Self>, call: Call) -> Option<End> {
        let (handle_sender, handle) = oneshot::channel::<Py<PyAny>>();
        let executor = Arc::clone(&self);
        let delivery = call.delivery.clone();
        let engine = call.engine.clone();
        let (ending, mut receiver) = Ending::new(call);
        let begin = Job::Ours(Box::new(move |py| match executor.begin_on_host(py, &ending) {
            // The activity may have ended meanwhile, and then nobody wants the handle.
            Ok(running) => drop(handle_sender.send(running)),
            Err(error) => ending.finish(py, Err(error)),
        }));
        if let Err(error) = self.threads.run(begin) {
            return Some(Err(error));
        }
        let cancelled = async {
            match delivery {
                Some(delivery) => {
                    tokio::select! { () = delivery.cancelled() => {}, () = engine.cancelled() => {} }
                }
                None => engine.cancelled().await,
            }
        };
        tokio::select! {
            biased;
            end = &mut receiver => return end.ok(),
            () = cancelled => {}
        }
        if let Ok(running) = handle.await {
            let cancel = Job::Ours(Box::new(move |py| {
                if let Err(error) = running.bind(py).call_method0(intern!(py, "cancel")) {
                    tracing::warn!(target: "duroxide::activity", "an activity could not be cancelled: {error}");
                }
            }));
            if let Err(error) = self.threads.run(cancel) {
                return Some(Err(error));
            }
        }
        receiver.await.ok()
    }

    fn begin_on_host(&self, py: Python<'_>, ending: &Arc<Ending>) -> PyResult<Py<PyAny>> {
        let Call { definition, input, .. } = &ending.call;
        let host =
            self.hosts.get(&definition.name).ok_or_else(|| PyRuntimeError::new_err("the activity has no host"))?;
        let context = ending.call.context(py)?;
        let done = Bound::new(py, Done(Arc::clone(ending)))?;
        let arguments = (definition.function.bind(py), &definition.input_type, context, input, done);
        Ok(host.bind(py).call_method1(intern!(py, "run"), arguments)?.unbind())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if *self.is_settled.get_mut() {
            return;
        }
        let (dispatcher, token) = (Arc::clone(&self.dispatcher), std::mem::take(&mut self.token));
        let rest = self.is_to_rest.get_mut().then_some(REST);
        // A cancelled activity has no lease any more, and a closed store ends it by itself.
        drop(bridge::spawn(async move { dispatcher.abandon_work_item(&token, rest, rest.is_none()).await }));
    }
}

impl Call {
    pub(super) fn prepare<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, ActivityContext>, Bound<'py, PyAny>)> {
        let mut input = codec::decode(py, &self.input)?;
        if let Some(annotation) = &self.definition.input_type {
            input = codec::convert(py, input, annotation.bind(py))?;
        }
        Ok((self.context(py)?, input))
    }

    fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, ActivityContext>> {
        let context = ActivityContext::new(self.engine.clone(), self.delivery.clone(), Arc::clone(&self.client));
        Bound::new(py, context)
    }

    fn is_cancelled(&self) -> bool {
        self.engine.is_cancelled() || self.delivery.as_ref().is_some_and(|delivery| delivery.is_cancelled())
    }

    /// The recorded failure; the traceback goes to the log, unless it did what it was asked to.
    fn failure(&self, py: Python<'_>, error: &PyErr) -> String {
        let was_cancelled = self.is_cancelled() && is_cancellation(py, error);
        let end = if was_cancelled { "was cancelled" } else { "failed" };
        let message = format!("activity '{}' of instance '{}' {end}", self.definition.name, self.engine.instance_id());
        // By the same ids as the context of the activity and the failure of the orchestration have.
        let extra = PyDict::new(py);
        let fields = [
            ("instance_id", self.engine.instance_id()),
            ("orchestration_name", self.engine.orchestration_name()),
            ("orchestration_version", self.engine.orchestration_version()),
            ("activity_name", self.engine.activity_name()),
            ("worker_id", self.engine.worker_id()),
        ];
        let written = fields
            .into_iter()
            .try_for_each(|(name, text)| extra.set_item(name, text))
            .and_then(|()| extra.set_item("execution_id", self.engine.execution_id()))
            .and_then(|()| {
                let Some(delivery) = &self.delivery else { return Ok(()) };
                extra.set_item("activity_id", delivery.activity_id)?;
                extra.set_item("attempt", delivery.attempt)
            });
        match written {
            Ok(()) if was_cancelled => crate::logging::log_info_with(py, "duroxide.activity", &message, &extra),
            Ok(()) => crate::logging::log_exception_with(py, "duroxide.activity", &message, error, &extra),
            Err(broken) => broken.write_unraisable(py, None),
        }
        codec::encode_failure(py, error)
    }
}

/// Whether an activity ended as one does that is cancelled, here or in the process of a pool.
fn is_cancellation(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<CancelledError>(py)
        || error
            .value(py)
            .getattr(intern!(py, "error_type"))
            .is_ok_and(|kind| kind.eq("CancelledError").unwrap_or(false))
}

/// The end of an activity, which comes once.
pub(super) struct Ending {
    pub(super) call: Call,
    sender: Mutex<Option<oneshot::Sender<End>>>,
}

impl Ending {
    fn new(call: Call) -> (Arc<Self>, oneshot::Receiver<End>) {
        let (sender, receiver) = oneshot::channel();
        (Arc::new(Self { call, sender: Mutex::new(Some(sender)) }), receiver)
    }

    pub(super) fn finish(&self, py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) {
        let end = result.and_then(|value| codec::encode(&value)).map_err(|error| self.call.failure(py, &error));
        if let Some(sender) = self.sender.lock().take() {
            // If the engine has given the activity up, its lease is given back.
            sender.send(end).ok();
        }
    }
}

/// What a thread or a host calls when an activity has ended: `done(result, None)` or `done(None, error)`. One that is never
/// called was cut off, and runs again.
#[pyclass(frozen, module = "duroxide._native")]
pub(crate) struct Done(pub(super) Arc<Ending>);

#[pymethods]
impl Done {
    fn __call__<'py>(&self, py: Python<'py>, result: Bound<'py, PyAny>, error: Bound<'py, PyAny>) {
        self.0.finish(py, if error.is_none() { Ok(result) } else { Err(PyErr::from_value(error)) });
    }
}
