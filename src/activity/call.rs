//! One run of an activity: the lease on it, the call of its code, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use duroxide::ActivityContext as EngineContext;
use duroxide::providers::Provider as _;
use engine_adapter::{Dispatcher, RunningActivity};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::activity::call_key::CallKey;
use crate::activity::context::ActivityContext;
use crate::boundary;
use crate::boundary::codec;
use crate::boundary::errors::CancelledError;
use crate::boundary::finalization::PythonSection;
use crate::boundary::python::{Attribute, END_OF_PROCESS, FAILURE_ERROR_TYPE, SHORTAGE};
use crate::definitions::ActivityDefinition;

/// How long an activity that was cut off rests before it runs again: what cut it off may not be over.
const RERUN_DELAY: Duration = Duration::from_secs(1);

/// The recorded result or failure of an activity.
pub(crate) type ActivityEnd = Result<String, String>;

/// By what the engine holds an activity for this process. Both the engine's task and the activity's code hold on to it; when
/// they are gone and no end was given to the engine, it is given back, so that the activity runs again.
pub(crate) struct Lease {
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) token: String,
    /// The engine has the end, or the store has the lease again.
    pub(crate) is_settled: AtomicBool,
}

impl Lease {
    /// Gives the activity back, whose code has ended: it runs again after a rest, since what cut it off may not be over, and
    /// in the same attempt. Whether that is done.
    pub(crate) async fn give_back(&self) -> bool {
        let given_back = self.dispatcher.abandon_work_item(&self.token, Some(RERUN_DELAY), true).await.is_ok();
        self.is_settled.store(given_back, Ordering::Release);
        given_back
    }
}

pub(crate) struct ActivityRun {
    pub(crate) definition: Arc<ActivityDefinition>,
    pub(crate) client: Arc<Py<PyAny>>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    /// The event that scheduled the first attempt of the call, if this is a later one.
    pub(crate) first_attempt: Option<u64>,
    /// Held, not read.
    pub(crate) _lease: Option<Arc<Lease>>,
    pub(crate) engine: EngineContext,
    pub(crate) running: Option<Arc<RunningActivity>>,
    pub(crate) input: String,
    pub(crate) begin: Arc<Begin>,
    /// Whether the time of the attempt is limited.
    pub(crate) is_timed: bool,
}

/// The time at which the code of an activity began, once it has begun.
pub(crate) struct Begin(watch::Sender<Option<Instant>>);

impl Default for Begin {
    fn default() -> Self {
        Self(watch::channel(None).0)
    }
}

impl Begin {
    pub(crate) fn set(&self) {
        self.0.send_if_modified(|begin| begin.replace(Instant::now()).is_none());
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Resolves when `time` has passed since the begin.
    pub(crate) async fn passed(&self, time: Duration) {
        let begin = self.0.subscribe().wait_for(Option::is_some).await.ok().and_then(|begin| *begin);
        tokio::time::sleep_until(begin.unwrap_or_else(Instant::now) + time).await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if *self.is_settled.get_mut() {
            return;
        }
        let (dispatcher, token) = (Arc::clone(&self.dispatcher), std::mem::take(&mut self.token));
        // A cancelled activity has no lease any more, and a closed store ends it by itself.
        // An attempt that was cut off is not counted: it is not the activity's fault.
        drop(boundary::spawn(async move { dispatcher.abandon_work_item(&token, None, true).await }));
    }
}

impl ActivityRun {
    /// The value that the function of the activity takes.
    pub(crate) fn decode_input<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let input = codec::decode(py, &self.input)?;
        match &self.definition.input_type {
            Some(annotation) => codec::convert(py, input, annotation.bind(py)),
            None => Ok(input),
        }
    }

    pub(crate) fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, ActivityContext>> {
        let key = CallKey::new(Arc::clone(&self.dispatcher), self.first_attempt);
        Bound::new(py, ActivityContext::new(self.engine.clone(), self.running.clone(), Arc::clone(&self.client), key))
    }

    fn is_cancelled(&self) -> bool {
        self.engine.is_cancelled() || self.running.as_ref().is_some_and(|running| running.is_cancelled())
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
                let Some(running) = &self.running else { return Ok(()) };
                extra.set_item("activity_id", running.activity_id)?;
                extra.set_item("attempt", running.attempt)
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
        || FAILURE_ERROR_TYPE.get(error.value(py)).is_ok_and(|kind| kind.eq("CancelledError").unwrap_or(false))
}

/// The end of an activity, which comes once.
pub(crate) struct PendingActivity {
    pub(crate) call: ActivityRun,
    sender: Mutex<Option<oneshot::Sender<ActivityEnd>>>,
}

impl PendingActivity {
    pub(crate) fn new(call: ActivityRun) -> (Arc<Self>, oneshot::Receiver<ActivityEnd>) {
        let (sender, receiver) = oneshot::channel();
        (Arc::new(Self { call, sender: Mutex::new(Some(sender)) }), receiver)
    }

    pub(crate) fn finish(&self, py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) {
        if let Err(error) = &result
            && let Some(reason) = reason_of(&END_OF_PROCESS, py, error)
        {
            return self.cut_off(&reason);
        }
        let end = result.and_then(|value| codec::encode(&value)).map_err(|error| self.call.failure(py, &error));
        if let Some(sender) = self.sender.lock().take() {
            // If the engine has given the activity up, its lease is given back.
            sender.send(end).ok();
        }
    }
}

impl PendingActivity {
    /// Ends an activity that could not begin. What this process lacks is not the activity's failure.
    pub(crate) fn refuse(&self, py: Python<'_>, error: PyErr) {
        match reason_of(&SHORTAGE, py, &error) {
            Some(reason) => self.cut_off(&reason),
            None => self.finish(py, Err(error)),
        }
    }

    /// Gives the activity back, to run again: it has not failed.
    fn cut_off(&self, reason: &str) {
        let (name, instance) = (&self.call.definition.name, self.call.engine.instance_id());
        tracing::warn!(
            target: "duroxide::activity",
            instance_id = instance,
            activity_name = name.as_str(),
            "activity '{name}' of instance '{instance}' was cut off and runs again, since {reason}"
        );
        drop(self.sender.lock().take());
    }
}

/// Why an activity runs again, as a function of Python's tells by the exception.
fn reason_of(function: &Attribute, py: Python<'_>, error: &PyErr) -> Option<String> {
    function.call(py, (error.value(py),)).and_then(|reason| reason.extract()).unwrap_or(None)
}

/// The callback that ends an activity: `done(result, None)` or `done(None, error)`. One that is never
/// called was cut off, and runs again.
#[pyclass(frozen, module = "duroxide._native")]
pub(crate) struct Done(pub(crate) Arc<PendingActivity>);

#[pymethods]
impl Done {
    fn __call__<'py>(&self, py: Python<'py>, result: Bound<'py, PyAny>, error: Bound<'py, PyAny>) {
        // Without an end the activity was cut off.
        let Some(_section) = PythonSection::begin() else { return };
        self.0.finish(py, if error.is_none() { Ok(result) } else { Err(PyErr::from_value(error)) });
    }
}
