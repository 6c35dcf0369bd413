//! Runs one activity for the engine: decodes its input, calls it on a thread or on a loop, records how it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use duroxide::ActivityContext as EngineContext;
use duroxide::providers::Provider as _;
use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::sync::oneshot;

use super::context::ActivityContext;
use super::threads::{Job, Threads};
use crate::definitions::ActivityDefinition;
use crate::store::{Delivery, Dispatcher, split_delivery};
use crate::{bridge, codec};

/// The recorded result or failure of an activity.
type End = Result<String, String>;

/// What the activities of one runtime share.
pub(crate) struct Executor {
    pub(crate) threads: Arc<Threads>,
    client: Arc<Py<PyAny>>,
    /// The loop of `async def` activities, made by the first of them.
    activity_loop: Mutex<Option<Py<PyAny>>>,
    /// Set when activities are cut off, whose failures are then ours and not theirs.
    is_stopped: AtomicBool,
}

/// By what the engine holds an activity for this process.
struct Lease {
    dispatcher: Arc<Dispatcher>,
    token: String,
}

pub(super) struct Call {
    pub(super) definition: Arc<ActivityDefinition>,
    client: Arc<Py<PyAny>>,
    lease: Option<Lease>,
    engine: EngineContext,
    delivery: Option<Arc<Delivery>>,
    input: String,
}

impl Executor {
    pub(crate) fn new(client: Py<PyAny>) -> Self {
        Self {
            threads: Arc::new(Threads::new()),
            client: Arc::new(client),
            activity_loop: Mutex::new(None),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Ends the threads and the loop after their work in hand.
    pub(crate) fn stop(&self, py: Python<'_>) -> PyResult<()> {
        self.is_stopped.store(true, Ordering::Release);
        py.detach(|| self.threads.stop());
        let activity_loop = self.activity_loop.lock().take();
        if let Some(activity_loop) = activity_loop {
            activity_loop.bind(py).call_method0(intern!(py, "stop"))?;
        }
        Ok(())
    }

    fn activity_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(activity_loop) = self.activity_loop.lock().as_ref() {
            return Ok(activity_loop.bind(py).clone());
        }
        // Made without the lock, since making it runs Python; a second one that lost the race never started.
        let made = py.import("duroxide.activity_loop")?.getattr("ActivityLoop")?.call0()?;
        let mut kept = self.activity_loop.lock();
        Ok(kept.get_or_insert_with(|| made.unbind()).bind(py).clone())
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
                let lease = Lease { dispatcher: Arc::clone(&dispatcher), token: token.to_owned() };
                (dispatcher.delivery(token), Some(lease), input.to_owned())
            }
            None => (None, None, input),
        };
        let call = Call { definition, client: Arc::clone(&self.client), lease, engine, delivery, input };
        let end = if call.definition.is_async {
            Arc::clone(&self).run_on_loop(call).await
        } else {
            self.run_on_thread(call).await
        };
        if end.is_err() && self.is_stopped.load(Ordering::Acquire) {
            // It was cut off, and runs again at the next start; the engine gives this task up.
            return std::future::pending().await;
        }
        end
    }

    async fn run_on_thread(&self, call: Call) -> End {
        let (ending, receiver) = Ending::new(call);
        self.threads.run(Job::Call(ending))?;
        receiver.await.unwrap_or_else(|_| Err("the activity's thread ended without a result".to_owned()))
    }

    async fn run_on_loop(self: Arc<Self>, call: Call) -> End {
        let (handle_sender, handle) = oneshot::channel::<Py<PyAny>>();
        let executor = Arc::clone(&self);
        let delivery = call.delivery.clone();
        let engine = call.engine.clone();
        let (ending, mut receiver) = Ending::new(call);
        self.threads.run(Job::Ours(Box::new(move |py| match executor.begin_on_loop(py, &ending) {
            // The activity may have ended meanwhile, and then nobody wants the handle.
            Ok(running) => drop(handle_sender.send(running)),
            Err(error) => ending.finish(py, Err(error)),
        })))?;
        let cancelled = async {
            match delivery {
                Some(delivery) => {
                    tokio::select! { () = delivery.cancelled() => {}, () = engine.cancelled() => {} }
                }
                None => engine.cancelled().await,
            }
        };
        let lost = || Err("the activity's loop ended without a result".to_owned());
        tokio::select! {
            biased;
            end = &mut receiver => return end.unwrap_or_else(|_| lost()),
            () = cancelled => {}
        }
        if let Ok(running) = handle.await {
            self.threads.run(Job::Ours(Box::new(move |py| {
                if let Err(error) = running.bind(py).call_method0(intern!(py, "cancel")) {
                    tracing::warn!(target: "duroxide::activity", "an activity could not be cancelled: {error}");
                }
            })))?;
        }
        receiver.await.unwrap_or_else(|_| lost())
    }

    fn begin_on_loop(&self, py: Python<'_>, ending: &Arc<Ending>) -> PyResult<Py<PyAny>> {
        let (context, input) = ending.call.prepare(py)?;
        let function = ending.call.definition.function.bind(py);
        let done = Bound::new(py, Done(Arc::clone(ending)))?;
        let running = self.activity_loop(py)?.call_method1(intern!(py, "run"), (function, context, input, done))?;
        Ok(running.unbind())
    }
}

impl Call {
    pub(super) fn prepare<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, ActivityContext>, Bound<'py, PyAny>)> {
        let mut input = codec::decode(py, &self.input)?;
        if let Some(annotation) = &self.definition.input_type {
            input = codec::convert(py, input, annotation.bind(py))?;
        }
        let context = ActivityContext::new(self.engine.clone(), self.delivery.clone(), Arc::clone(&self.client));
        Ok((Bound::new(py, context)?, input))
    }

    /// The recorded failure; the traceback goes to the log.
    fn failure(&self, py: Python<'_>, error: &PyErr) -> String {
        let message = format!("activity '{}' of instance '{}' failed", self.definition.name, self.engine.instance_id());
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
            Ok(()) => crate::logging::log_exception_with(py, "duroxide.activity", &message, error, &extra),
            Err(broken) => broken.write_unraisable(py, None),
        }
        codec::encode_failure(py, error)
    }
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

    /// The engine has given the activity up, at a shutdown most likely: now that its code has ended, it may run again
    /// without waiting for the end of its lease.
    fn give_back(&self) {
        if let Some(Lease { dispatcher, token }) = &self.call.lease {
            let (dispatcher, token) = (Arc::clone(dispatcher), token.clone());
            let given_back = async move { dispatcher.abandon_work_item(&token, None, true).await };
            // A cancelled activity has no lease any more, and a closed store ends it by itself.
            drop(bridge::spawn(given_back));
        }
    }

    pub(super) fn finish(&self, py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) {
        let end = result.and_then(|value| codec::encode(&value)).map_err(|error| self.call.failure(py, &error));
        let sender = self.sender.lock().take();
        if sender.is_some_and(|sender| sender.send(end).is_err()) {
            self.give_back();
        }
    }
}

/// What a thread or a loop calls when an activity has ended: `done(result, None)` or `done(None, error)`.
#[pyclass(frozen, module = "duroxide._native")]
pub(crate) struct Done(pub(super) Arc<Ending>);

#[pymethods]
impl Done {
    fn __call__<'py>(&self, py: Python<'py>, result: Bound<'py, PyAny>, error: Bound<'py, PyAny>) {
        self.0.finish(py, if error.is_none() { Ok(result) } else { Err(PyErr::from_value(error)) });
    }
}
