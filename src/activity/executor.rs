//! Runs one activity for the engine: calls it on a thread or hands it to its host, records how it ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use duroxide::ActivityContext as EngineContext;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::sync::oneshot;

use crate::activity::call::{ActivityEnd, ActivityRun, Done, Lease, PendingActivity};
use crate::activity::threads::{Job, Threads};
use crate::boundary::python::{HOST_RUN, HOST_STOP, RUNNING_ACTIVITY_CANCEL};
use crate::definitions::ActivityDefinition;
use engine_adapter::Dispatcher;
use engine_adapter::split_token;

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
        let host = self.hosts.contains_key(&definition.name);
        let call =
            ActivityRun { definition, client: Arc::clone(&self.client), _lease: lease.clone(), engine, running, input };
        let end = if host { Arc::clone(&self).run_on_host(call).await } else { self.run_on_thread(call).await };
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

    async fn run_on_thread(&self, call: ActivityRun) -> Option<ActivityEnd> {
        let (pending, receiver) = PendingActivity::new(call);
        if let Err(error) = self.threads.run(Job::Call(pending)) {
            return Some(Err(error));
        }
        receiver.await.ok()
    }

    async fn run_on_host(self: Arc<Self>, call: ActivityRun) -> Option<ActivityEnd> {
        let (handle_sender, handle) = oneshot::channel::<Py<PyAny>>();
        let executor = Arc::clone(&self);
        let running = call.running.clone();
        let engine = call.engine.clone();
        let (pending, mut receiver) = PendingActivity::new(call);
        let begin = Job::Ours(Box::new(move |py| match executor.begin_on_host(py, &pending) {
            // The activity may have ended by now. Then the handle has no use.
            Ok(running) => drop(handle_sender.send(running)),
            Err(error) => pending.refuse(py, error),
        }));
        if let Err(error) = self.threads.run(begin) {
            return Some(Err(error));
        }
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
        }
        if let Ok(running) = handle.await {
            let cancel = Job::Ours(Box::new(move |py| {
                if let Err(error) = RUNNING_ACTIVITY_CANCEL.call(running.bind(py), ()) {
                    tracing::warn!(target: "duroxide::activity", "an activity could not be cancelled: {error}");
                }
            }));
            if let Err(error) = self.threads.run(cancel) {
                return Some(Err(error));
            }
        }
        receiver.await.ok()
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
