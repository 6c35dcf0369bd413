//! The store as the clients of this process see it: failures that pass are waited out, and every change wakes the waits
//! for its instance.

use std::collections::HashSet;
use std::sync::Arc;

use duroxide::INITIAL_EXECUTION_ID;
use duroxide::providers::{
    DeleteInstanceResult, InstanceFilter, InstanceInfo, InstanceTree, PruneResult, SystemMetrics,
};
use store::history::is_last;
use store::operations::AdminOperations as _;
use store::retry::{RetryLimit, RetryState};
use store::{Failure, FailureKind, Result, operation_name, retrying};

use crate::process::ProcessState;

/// The operations for clients. Those that take or end a lease are for a dispatcher.
pub struct ClientView {
    pub shared: Arc<ProcessState>,
}

/// How long an operation is repeated.
macro_rules! limit {
    (renew_orchestration_item_lock) => {
        RetryLimit::Lease
    };
    (ack_work_item) => {
        RetryLimit::Lease
    };
    (renew_work_item_lock) => {
        RetryLimit::Lease
    };
    (renew_session_lock) => {
        RetryLimit::Lease
    };
    (append_with_execution) => {
        RetryLimit::CallerOnce
    };
    (enqueue_for_worker) => {
        RetryLimit::CallerOnce
    };
    (fetch_orchestration_item) => {
        RetryLimit::CallerOnce
    };
    (commit_turn) => {
        RetryLimit::CallerOnce
    };
    (abandon_orchestration_item) => {
        RetryLimit::CallerOnce
    };
    (fetch_work_item) => {
        RetryLimit::CallerOnce
    };
    (abandon_work_item) => {
        RetryLimit::CallerOnce
    };
    // Reads, and writes that can be applied twice. `enqueue_for_orchestrator` is among them because both stores know
    // what they have recorded: a failure that may be repeated was not applied.
    ($operation:ident) => {
        RetryLimit::Caller
    };
}

/// Carries out an operation in the store, and repeats it after failures that pass.
macro_rules! repeated {
    ($self:ident, $operation:ident($($argument:ident),*)) => {{
        let backend = $self.shared.backend();
        let mut retry = RetryState::new(limit!($operation));
        retrying!(
            $self.shared.availability(),
            operation_name!($operation),
            &mut retry,
            backend.$operation($(Clone::clone(&$argument)),*)
        )
    }};
}

/// Adds the effects of an operation in this process.
macro_rules! for_clients {
    ($self:ident, append_with_execution($instance:ident, $execution_id:ident, $events:ident)) => {{
        repeated!($self, append_with_execution($instance, $execution_id, $events))?;
        $self.shared.watches.notify($instance);
        Ok(())
    }};
    ($self:ident, enqueue_for_orchestrator($item:ident, $delay:ident)) => {{
        repeated!($self, enqueue_for_orchestrator($item, $delay))?;
        $self.shared.enqueued(&$item);
        Ok(())
    }};
    ($self:ident, list_instances()) => {
        $self.list(None).await
    };
    ($self:ident, list_instances_by_status($status:ident)) => {
        $self.list(Some($status)).await
    };
    ($self:ident, get_instance_info($instance:ident)) => {
        $self.info($instance).await
    };
    ($self:ident, get_parent_id($instance:ident)) => {
        $self.parent($instance).await
    };
    ($self:ident, get_system_metrics()) => {
        $self.metrics().await
    };
    ($self:ident, prune_executions($instance:ident, $options:ident)) => {
        match repeated!($self, prune_executions($instance, $options)) {
            Err(failure) if $self.is_starting($instance, &failure).await? => {
                Ok(PruneResult { instances_processed: 1, ..PruneResult::default() })
            }
            outcome => outcome,
        }
    };
    ($self:ident, delete_instances_atomic($ids:ident, $force:ident)) => {
        $self.delete($ids, $force).await
    };
    ($self:ident, delete_instance_bulk($filter:ident)) => {
        $self.delete_bulk($filter).await
    };
    ($self:ident, $operation:ident($($argument:ident),*)) => {
        repeated!($self, $operation($($argument),*))
    };
}

store::forward_engine_operations!(ClientView, for_clients);
store::forward_admin_operations!(ClientView, for_clients);

const CONTINUED: &str = "ContinuedAsNew";
const RUNNING: &str = "Running";
/// What the stores report for an instance without a recorded version.
const NO_VERSION: &str = "unknown";

/// An instance exists for clients from the moment its start is recorded; for the providers it exists from its first turn
/// on. A start leaves the queue when the instance gets its row, so the queue is read first.
impl ClientView {
    async fn list(&self, status: Option<&str>) -> Result<Vec<String>> {
        let mut ids = match status {
            None | Some(RUNNING) => self.shared.backend().waiting_starts().await?,
            Some(_) => Vec::new(),
        };
        let recorded = match status {
            None => repeated!(self, list_instances())?,
            Some(status) => repeated!(self, list_instances_by_status(status))?,
        };
        if !ids.is_empty() {
            let known: HashSet<&str> = recorded.iter().map(String::as_str).collect();
            ids.retain(|id| !known.contains(id.as_str()));
        }
        ids.extend(recorded);
        Ok(ids)
    }

    async fn info(&self, instance: &str) -> Result<InstanceInfo> {
        let recorded = repeated!(self, get_instance_info(instance));
        let Err(failure) = &recorded else { return recorded };
        if failure.kind != FailureKind::NotFound {
            return recorded;
        }
        let Some(start) = self.shared.backend().waiting_start(instance).await? else {
            // The first turn may have read the start between the two reads.
            return repeated!(self, get_instance_info(instance));
        };
        Ok(InstanceInfo {
            instance_id: instance.to_owned(),
            orchestration_name: start.orchestration,
            orchestration_version: start.version.unwrap_or_else(|| NO_VERSION.to_owned()),
            current_execution_id: INITIAL_EXECUTION_ID,
            status: RUNNING.to_owned(),
            output: None,
            created_at: start.requested_ms,
            updated_at: start.requested_ms,
            parent_instance_id: start.parent,
        })
    }

    async fn parent(&self, instance: &str) -> Result<Option<String>> {
        match repeated!(self, get_parent_id(instance)) {
            Err(failure) if failure.kind == FailureKind::NotFound => Ok(self.info(instance).await?.parent_instance_id),
            outcome => outcome,
        }
    }

    async fn metrics(&self) -> Result<SystemMetrics> {
        let starting = self.shared.backend().count_waiting_starts().await?;
        let mut metrics = repeated!(self, get_system_metrics())?;
        metrics.total_instances += starting;
        metrics.running_instances += starting;
        Ok(metrics)
    }

    /// Whether an operation failed because the instance has no row yet: its start waits.
    async fn is_starting(&self, instance: &str, failure: &Failure) -> Result<bool> {
        if failure.kind != FailureKind::NotFound {
            return Ok(false);
        }
        Ok(self.shared.backend().waiting_start(instance).await?.is_some())
    }

    /// The instance and all of its descendants, also those whose starts wait.
    pub async fn whole_tree(&self, instance: &str) -> Result<InstanceTree> {
        let mut tree = self.get_instance_tree(instance).await?;
        let starting = self.shared.backend().waiting_children(&tree.all_ids).await?;
        let new: Vec<String> = starting.into_iter().filter(|id| !tree.all_ids.contains(id)).collect();
        tree.all_ids.extend(new);
        Ok(tree)
    }

    /// Deletes an instance and all of its descendants.
    pub async fn delete_tree(&self, instance: &str, force: bool) -> Result<DeleteInstanceResult> {
        if self.get_parent_id(instance).await?.is_some() {
            // The trait refuses this with the words that all stores have.
            return self.delete_instance(instance, force).await;
        }
        let tree = self.whole_tree(instance).await?;
        self.delete_instances_atomic(&tree.all_ids, force).await
    }

    async fn delete(&self, ids: &[String], force: bool) -> Result<DeleteInstanceResult> {
        if !force {
            // An instance is alive between two executions and before its first turn, but the provider may not say so.
            for id in ids {
                if !is_last(&self.get_instance_info(id).await?.status) {
                    return Err(Failure::still_running("delete_instances_atomic", id));
                }
            }
        }
        let result = repeated!(self, delete_instances_atomic(ids, force))?;
        for id in ids {
            self.shared.drop_work(id);
        }
        Ok(result)
    }

    async fn delete_bulk(&self, filter: InstanceFilter) -> Result<DeleteInstanceResult> {
        let continued = if self.shared.backend().traits().lists_continued {
            self.list_instances_by_status(CONTINUED).await?
        } else {
            Vec::new()
        };
        let filter = if continued.is_empty() { filter } else { self.without(filter, &continued).await? };
        let result = repeated!(self, delete_instance_bulk(filter))?;
        // Which instances they were is not told.
        self.shared.descriptors.forget_all();
        self.shared.watches.notify_all();
        Ok(result)
    }

    /// The same filter, without the instances that are between two executions.
    async fn without(&self, mut filter: InstanceFilter, continued: &[String]) -> Result<InstanceFilter> {
        let mut ids = if let Some(ids) = filter.instance_ids.take() {
            ids
        } else {
            let mut ids = self.list_instances_by_status("Completed").await?;
            ids.extend(self.list_instances_by_status("Failed").await?);
            ids
        };
        ids.retain(|id| !continued.contains(id));
        filter.instance_ids = Some(ids);
        Ok(filter)
    }
}
