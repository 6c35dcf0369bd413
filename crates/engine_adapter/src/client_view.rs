//! The store as the clients of this process see it: failures that pass are waited out, and every change wakes the waits
//! for its instance.

use std::sync::Arc;

use duroxide::providers::{DeleteInstanceResult, InstanceFilter};
use store::operations::AdminOperations as _;
use store::retry::{RetryLimit, RetryState};
use store::{Failure, Result, operation_name, retrying};

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

impl ClientView {
    async fn delete(&self, ids: &[String], force: bool) -> Result<DeleteInstanceResult> {
        if !force {
            // Between two executions an instance is alive, but the provider calls it ended.
            for id in ids {
                if self.get_instance_info(id).await?.status == CONTINUED {
                    return Err(Failure::still_running("delete_instances_atomic", id));
                }
            }
        }
        let result = repeated!(self, delete_instances_atomic(ids, force))?;
        for id in ids {
            self.shared.deleted(id);
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
