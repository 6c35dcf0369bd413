//! Runs one activity for the engine: calls it on a thread or hands it to its host, records how it ended.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use duroxide::ActivityContext as EngineContext;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::sync::oneshot;

use crate::activity::call::{ActivityEnd, ActivityRun, Begin, Done, Lease, PendingActivity};
use crate::activity::threads::{Job, Threads};
use crate::boundary::python::{HOST_RUN, HOST_STOP, RUNNING_ACTIVITY_CANCEL, RUNNING_ACTIVITY_HAS_BEGUN};
use crate::boundary::time_limit::{PassedLimit, TimeLimit};
use crate::definitions::ActivityDefinition;
use engine_adapter::{AttemptHeader, Dispatcher, split_token};
use store::clock::now_ms;

/// How often the executor asks whether a pool has begun an activity whose time is limited.
const BEGIN_CHECK: Duration = Duration::from_millis(50);

/// The state that the activities of one runtime share.
pub(crate) struct Executor {
    pub(crate) threads: Arc<Threads>,
    client: Arc<Py<PyAny>>,
    /// What runs the activities that do not run on our threads, by name: an event loop or a pool, `ActivityHost` in Python.
    hosts: HashMap<String, Py<PyAny>>,
    /// Set when activities are cut off, whose failures are then ours and not theirs.
    is_stopped: AtomicBool,
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
        self.hosts.values().try_for_each(|host| HOST_STOP.call(host.bind(py), ()).map(drop))
    }

    /// Runs an activity to its end.
    pub(crate) async fn run(
        self: Arc<Self>,
        definition: Arc<ActivityDefinition>,
        dispatcher: Arc<Dispatcher>,
        engine: EngineContext,
        input: String,
    ) -> ActivityEnd {
        let (running, lease, input) = match split_token(&input) {
            Some((token, input)) => {
                let lease = Lease {
                    dispatcher: Arc::clone(&dispatcher),
                    token: token.to_owned(),
                    is_settled: AtomicBool::new(false),
                };
                (dispatcher.running_activity(token), Some(Arc::new(lease)), input.to_owned())
            }
            None => (None, None, input),
        };
        let (header, input) = AttemptHeader::split(&input);
        let header = header.unwrap_or_default();
        let call = ActivityRun {
            definition,
            client: Arc::clone(&self.client),
            dispatcher,
            first_attempt: header.first_attempt,
            _lease: lease.clone(),
            engine,
            running,
            input: input.to_owned(),
            begin: Arc::default(),
            is_timed: header.timeout_ms.is_some(),
        };
        let end = Arc::clone(&self).run_within(call, header).await;
        let is_stopped = self.is_stopped.load(Ordering::Acquire);
        match end {
            Some(end) if end.is_ok() || !is_stopped => {
                if let Some(lease) = lease {
                    lease.is_settled.store(true, Ordering::Release);
                }
                end
            }
            // It was cut off, which is not its failure: it runs again. Of an end without a lease nothing is recorded.
            _ => match lease {
                Some(lease) if !is_stopped && lease.give_back().await => {
                    Err("it was cut off, and runs again; this is not recorded".to_owned())
                }
                // The engine gives this task up.
                _ => std::future::pending().await,
            },
        }
    }

    /// Runs an activity within the limits of its attempt.
    ///
    /// When the time of an attempt has passed, its code is cancelled, and the failure is recorded at once. The code may
    /// take longer to end. Its end has no effect any more.
    async fn run_within(self: Arc<Self>, call: ActivityRun, header: AttemptHeader) -> Option<ActivityEnd> {
        let name = call.definition.name.clone();
        if let Some(start) = header.start.filter(|start| now_ms() > start.latest_ms) {
            let passed = PassedLimit { limit: TimeLimit::Start, timeout_ms: start.timeout_ms };
            return Some(Err(passed.to_failure(&name)));
        }
        let Some(timeout_ms) = header.timeout_ms else { return self.run_to_end(call).await };
        let (running, begin) = (call.running.clone(), Arc::clone(&call.begin));
        let instance = call.engine.instance_id().to_owned();
        let mut work = Box::pin(self.run_to_end(call));
        tokio::select! {
            biased;
            end = &mut work => return end,
            () = begin.passed(Duration::from_millis(timeout_ms)) => {}
        }
        tracing::warn!(
            target: "duroxide::activity",
            "activity '{name}' of instance '{instance}' is cancelled: its attempt took longer than {timeout_ms} ms"
        );
        if let Some(running) = running {
            running.cancel();
        }
        tokio::spawn(work);
        Some(Err(PassedLimit { limit: TimeLimit::Attempt, timeout_ms }.to_failure(&name)))
    }

    async fn run_to_end(self: Arc<Self>, call: ActivityRun) -> Option<ActivityEnd> {
        if self.hosts.contains_key(&call.definition.name) {
            self.run_on_host(call).await
        } else {
            self.run_on_thread(call).await
        }
    }

    async fn run_on_thread(&self, call: ActivityRun) -> Option<ActivityEnd> {
        let (pending, receiver) = PendingActivity::new(call);
        if let Err(error) = self.threads.run(Job::Call(pending)) {
            return Some(Err(error));
        }
        receiver.await.ok()
    }

    async fn run_on_host(self: Arc<Self>, call: ActivityRun) -> Option<ActivityEnd> {
        let (handle_sender, mut handle) = oneshot::channel::<Py<PyAny>>();
        let executor = Arc::clone(&self);
        let (running, engine, begin) = (call.running.clone(), call.engine.clone(), Arc::clone(&call.begin));
        let is_timed = call.is_timed;
        let (pending, mut receiver) = PendingActivity::new(call);
        let job = Job::Ours(Box::new(move |py| match executor.begin_on_host(py, &pending) {
            // The activity may have ended by now. Then the handle has no use.
            Ok(running) => drop(handle_sender.send(running)),
            Err(error) => pending.refuse(py, error),
        }));
        if let Err(error) = self.threads.run(job) {
            return Some(Err(error));
        }
        let handle = tokio::select! {
            biased;
            end = &mut receiver => return end.ok(),
            handle = &mut handle => handle.ok(),
        };
        let Some(handle) = handle.map(Arc::new) else { return receiver.await.ok() };
        let cancelled = async {
            match running {
                Some(running) => {
                    tokio::select! { () = running.cancelled() => {}, () = engine.cancelled() => {} }
                }
                None => engine.cancelled().await,
            }
        };
        tokio::select! {
            biased;
            end = &mut receiver => return end.ok(),
            () = cancelled => {}
            never = self.watch_begin(&handle, &begin), if is_timed => match never {},
        }
        let cancel = Job::Ours(Box::new(move |py| {
            if let Err(error) = RUNNING_ACTIVITY_CANCEL.call(handle.bind(py), ()) {
                tracing::warn!(target: "duroxide::activity", "an activity could not be cancelled: {error}");
            }
        }));
        if let Err(error) = self.threads.run(cancel) {
            return Some(Err(error));
        }
        receiver.await.ok()
    }

    /// Notes when a host begins an activity, which may wait in the queue of a pool. It never returns.
    async fn watch_begin(&self, handle: &Arc<Py<PyAny>>, begin: &Arc<Begin>) -> Infallible {
        while !begin.is_set() {
            let (handle, begin) = (Arc::clone(handle), Arc::clone(begin));
            let look = Job::Ours(Box::new(move |py| {
                let has_begun = RUNNING_ACTIVITY_HAS_BEGUN.call(handle.bind(py), ()).and_then(|begun| begun.extract());
                if has_begun.unwrap_or(true) {
                    begin.set();
                }
            }));
            if self.threads.run(look).is_err() {
                break;
            }
            tokio::time::sleep(BEGIN_CHECK).await;
        }
        std::future::pending().await
    }

    fn begin_on_host(&self, py: Python<'_>, pending: &Arc<PendingActivity>) -> PyResult<Py<PyAny>> {
        let ActivityRun { definition, input, .. } = &pending.call;
        let host =
            self.hosts.get(&definition.name).ok_or_else(|| PyRuntimeError::new_err("the activity has no host"))?;
        let context = pending.call.context(py)?;
        let done = Bound::new(py, Done(Arc::clone(pending)))?;
        let arguments = (definition.function.bind(py), &definition.input_type, context, input, done);
        Ok(HOST_RUN.call(host.bind(py), arguments)?.unbind())
    }
}
