//! The store as the engine sees it. The adapter stands between the engine and a store: it retries, wakes waits, decides
//! what a runtime may run, and tells the driver of Python code what its turn stands on. This crate knows nothing of
//! Python.
//!
//! Clients use [`EngineAdapter::client_view`], each runtime a [`Dispatcher`]. Both see each other's commits, so waits
//! in this process do not poll.

mod activities;
mod admission;
mod attempt_header;
mod cancellation;
mod client_view;
mod commits_in_flight;
mod description;
mod dispatcher;
mod escape;
mod held_turns;
mod metrics;
mod nondeterminism;
mod process;
mod recorded;
mod refusals;
mod running_activities;
mod settings;
mod suspects;
mod suspended;
#[cfg(test)]
mod tests;
mod turn_commit;
mod turn_record;
mod turns;
mod waiting_work;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use duroxide::EventKind;
use duroxide::providers::{InstanceFilter, Provider};
use store::clock::{milliseconds, now_ms};
use store::forward::AsProvider;
use store::history::is_end;
use store::listing::{InstanceCount, InstanceQuery, InstanceSummary, PageRequest};
use store::live::LiveState;
use store::operations::{AdminOperations as _, EngineOperations as _};
use store::start::WaitingStart;
use store::termination::Termination;
use store::{Failure, Store, StoreError};

pub use crate::attempt_header::{AttemptHeader, StartBound};
pub use crate::cancellation::{CANCELLATION_QUEUE, CancelledEnd, end_request};
pub use crate::client_view::ClientView;
pub use crate::description::{Description, Sources};
pub use crate::dispatcher::Dispatcher;
pub use crate::escape::{Escaping, escape};
pub use crate::metrics::Metrics;
pub use crate::nondeterminism::action::{Action, Described};
pub use crate::nondeterminism::mismatch_report::{ActualAction, CodeLocation, MismatchReport};
pub use crate::recorded::{RecordedEvent, RecordedKind, hash_data};
pub use crate::running_activities::{RunningActivity, split_token};
pub use crate::settings::{Capacity, DispatcherSettings, Nondeterminism, Unregistered};
pub use crate::suspended::{DriverState, SuspendedTurn, SuspendedTurnCache};
pub use crate::turn_record::TurnRecord;
pub use crate::watch::Watch;

use crate::process::{ProcessState, RuntimeReporter};

/// An opened store, and the state that all clients and runtimes of this process share over it.
#[derive(Clone)]
pub struct EngineAdapter {
    store: Store,
    process: Arc<ProcessState>,
}

impl EngineAdapter {
    pub fn over(store: Store) -> Self {
        let process = ProcessState::of(store.database());
        Self { store, process }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The store as a client uses it.
    pub fn client_view(&self) -> ClientView {
        ClientView { shared: Arc::clone(&self.process) }
    }

    /// The same for a client of the engine.
    pub fn provider(&self) -> Arc<dyn Provider> {
        Arc::new(AsProvider { store: Arc::new(self.client_view()), name: self.process.backend().name() })
    }

    /// The store as one runtime uses it.
    pub fn dispatcher(&self, settings: DispatcherSettings) -> Arc<Dispatcher> {
        let dispatcher = Arc::new(Dispatcher::new(Arc::clone(&self.process), settings));
        self.process.add_reporter(&(Arc::clone(&dispatcher) as Arc<dyn RuntimeReporter>));
        dispatcher
    }

    /// Whether all changes of the store reach its watches at present.
    pub fn reports_all_changes(&self) -> bool {
        self.process.backend().reports_all_changes()
    }

    /// For waiting: watch first, then look, then wait for the change.
    pub fn watch(&self, instance: &str) -> Watch {
        let elsewhere = self.process.backend().watch_commits();
        let digest = self.process.backend().digest(instance);
        self.process.watches.watch(instance, digest, elsewhere)
    }

    /// Why `instance` waits for code that fits its history, if it does.
    pub async fn mismatch(&self, instance: &str) -> Option<String> {
        let report = match self.process.backend().mismatch(instance).await {
            Ok(report) => report,
            Err(_) => self.process.waiting.report(instance),
        };
        report.or_else(|| self.process.waiting_activities.report_for(instance))
    }

    /// Why the start of an instance without history waits, as far as this process knows.
    pub fn why_start_waits(&self, instance: &str) -> Option<String> {
        self.process.waiting.report(instance)
    }

    /// The start of an instance that no turn has read yet.
    pub async fn waiting_start(&self, instance: &str) -> Result<Option<WaitingStart>, StoreError> {
        Ok(self.process.backend().waiting_start(instance).await?)
    }

    /// The summaries of a page, in its order; one more than its limit if there is another page.
    pub async fn page(&self, request: &PageRequest) -> Result<Vec<InstanceSummary>, StoreError> {
        self.process.backend().page(request).await
    }

    /// How many instances of each name have each status.
    pub async fn counts(&self, query: &InstanceQuery) -> Result<Vec<InstanceCount>, StoreError> {
        self.process.backend().counts(query).await
    }

    /// Terminates an instance and, if asked, all below it. Returns the instances that this call has ended.
    pub async fn terminate(&self, request: &Termination) -> Result<Vec<String>, StoreError> {
        let ended = self.process.backend().terminate(request).await?;
        for instance in &ended {
            self.process.drop_work(instance);
        }
        Ok(ended)
    }

    /// What is under way for an instance, and which processes could continue it.
    pub async fn live_state(&self, instance: &str) -> Result<LiveState, StoreError> {
        Ok(self.process.backend().live_state(instance).await?)
    }

    /// When the instance was created and last changed, in ms since the epoch.
    pub async fn instance_times(&self, instance: &str) -> Result<(u64, u64), StoreError> {
        const OPERATION: &str = "get_instance_info";
        if self.process.backend().traits().knows_times {
            let info = self.client_view().get_instance_info(instance).await?;
            return Ok((info.created_at, info.updated_at));
        }
        let times = match self.process.backend().instance_times(instance).await? {
            None => match self.waiting_start(instance).await? {
                Some(start) => Some((start.requested_ms, start.requested_ms)),
                // The first turn may have read the start between the two reads.
                None => self.process.backend().instance_times(instance).await?,
            },
            times => times,
        };
        match times {
            Some(times) => Ok(times),
            None => Err(Failure::not_found(OPERATION, format!("Instance {instance} not found")).into()),
        }
    }

    /// When the execution started and, if it has, ended, in ms since the epoch.
    pub async fn execution_times(&self, instance: &str, execution_id: u64) -> Result<(u64, Option<u64>), StoreError> {
        let view = self.client_view();
        if self.process.backend().traits().knows_times {
            let info = view.get_execution_info(instance, execution_id).await?;
            return Ok((info.started_at, info.completed_at));
        }
        let history = view.read_with_execution(instance, execution_id).await?;
        let Some(first) = history.first() else {
            let message = format!("Execution {execution_id} of instance {instance} not found");
            return Err(Failure::not_found("get_execution_info", message).into());
        };
        let end = history
            .iter()
            .find(|event| is_end(&event.kind) || matches!(event.kind, EventKind::OrchestrationContinuedAsNew { .. }));
        Ok((first.timestamp_ms, end.map(|event| event.timestamp_ms)))
    }

    /// Removes at most `limit` of the instances that ended longer ago than `kept`, and their sub-orchestrations.
    /// Returns how many were removed in all.
    pub async fn remove_ended(&self, kept: Duration, limit: u32) -> Result<u64, StoreError> {
        let (instance_ids, before) = match self.process.backend().ended_instances(kept, limit).await? {
            Some(ended) if ended.ids.is_empty() => return Ok(0),
            Some(ended) => (Some(ended.ids), ended.before_ms),
            None => (None, now_ms().saturating_sub(milliseconds(kept))),
        };
        let filter = InstanceFilter { instance_ids, completed_before: Some(before), limit: Some(limit) };
        Ok(self.client_view().delete_instance_bulk(filter).await?.instances_deleted)
    }
}
