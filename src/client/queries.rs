//! The calls of operation: lists, times, histories, metrics, termination, deletion and pruning.

use duroxide::providers::{
    DeleteInstanceResult, InstanceFilter, PruneOptions, PruneResult, QueueDepths, SystemMetrics,
};
use duroxide::{INITIAL_EXECUTION_ID, SystemStats};

use crate::boundary::errors::{Error, InstanceNotFound};
use crate::client::open_store::OpenStore;
use crate::client::records::{EventRecord, ExecutionRecord, InstanceRecord, TreeRecord};
use store::StoreError;
use store::operations::{AdminOperations as _, EngineOperations as _};
use store::termination::Termination;

const RUNNING: &str = "Running";
/// The logger of the engine's client, which would log these deletions if they went through it.
const CLIENT_LOG: &str = "duroxide::client";

impl OpenStore {
    /// All instances, or those with a status, in the order of their ids.
    pub(crate) async fn list_instances(&self, status: Option<&str>) -> Result<Vec<String>, Error> {
        let listed = match status {
            Some(status) => self.client.list_instances_by_status(status).await,
            None => self.client.list_instances().await,
        };
        let mut ids = listed?;
        ids.sort_unstable();
        Ok(ids)
    }

    pub(crate) async fn instance_info(&self, instance: &str) -> Result<InstanceRecord, Error> {
        let info = self.info(instance).await?;
        // The bundled provider gives an empty text while an execution has no output.
        let ended = info.status != RUNNING;
        let (created_at, updated_at) =
            self.adapter.instance_times(instance).await.map_err(|error| gone(instance, error))?;
        Ok(InstanceRecord {
            instance_id: info.instance_id,
            orchestration_name: info.orchestration_name,
            orchestration_version: info.orchestration_version,
            current_execution_id: info.current_execution_id,
            status: info.status,
            output: info.output.filter(|_| ended),
            created_at,
            updated_at,
            parent_instance_id: info.parent_instance_id,
            has_begun: self.adapter.waiting_start(instance).await?.is_none(),
        })
    }

    pub(crate) async fn execution_info(&self, instance: &str, execution_id: u64) -> Result<ExecutionRecord, Error> {
        let info = match self.client.get_execution_info(instance, execution_id).await {
            Ok(info) => info,
            Err(error) => {
                return match (Error::of_instance(instance, error), self.adapter.waiting_start(instance).await) {
                    (Error::NotFound(_), Ok(Some(start))) if execution_id == INITIAL_EXECUTION_ID => {
                        Ok(ExecutionRecord::expected(start.requested_ms))
                    }
                    (Error::NotFound(_), _) => Err(self.no_execution(instance, execution_id).await),
                    (error, _) => Err(error),
                };
            }
        };
        let times = self.adapter.execution_times(instance, execution_id).await;
        let (started_at, completed_at) = times.map_err(|error| gone(instance, error))?;
        let output = info.output.filter(|_| info.status != RUNNING);
        Ok(ExecutionRecord {
            execution_id: info.execution_id,
            status: info.status,
            output,
            started_at,
            completed_at,
            event_count: info.event_count,
        })
    }

    pub(crate) async fn list_executions(&self, instance: &str) -> Result<Vec<u64>, Error> {
        let mut executions =
            self.client.list_executions(instance).await.map_err(|failure| Error::of_instance(instance, failure))?;
        if executions.is_empty() {
            if !self.store.exists(instance).await? {
                return Err(Error::NotFound(instance.to_owned()));
            }
            // The first turn has not come yet.
            executions.push(INITIAL_EXECUTION_ID);
        }
        executions.sort_unstable();
        Ok(executions)
    }

    /// The events of one execution, the newest if none is named; none yet of an instance whose start is waiting.
    pub(crate) async fn history(&self, instance: &str, execution_id: Option<u64>) -> Result<Vec<EventRecord>, Error> {
        let (execution_id, is_expected) = match execution_id {
            Some(execution_id) => (execution_id, execution_id == INITIAL_EXECUTION_ID),
            None => (self.info(instance).await?.current_execution_id, true),
        };
        let read = async || {
            let read = self.client.read_history_with_execution_id(instance, execution_id).await;
            read.map_err(|failure| Error::of_instance(instance, failure))
        };
        let mut events = read().await?;
        if events.is_empty() && is_expected {
            if self.adapter.waiting_start(instance).await?.is_some() {
                return Ok(Vec::new());
            }
            // The first turn came between the two reads.
            events = read().await?;
        }
        if events.is_empty() {
            return Err(self.no_execution(instance, execution_id).await);
        }
        Ok(events.into_iter().map(EventRecord::from).collect())
    }

    /// Says what is missing: the instance, or one execution of it.
    async fn no_execution(&self, instance: &str, execution_id: u64) -> Error {
        match self.info(instance).await {
            Ok(info) => Error::Python(InstanceNotFound::new_err(format!(
                "instance '{instance}' has no execution {execution_id}, or it was pruned; its current one is {}",
                info.current_execution_id
            ))),
            Err(error) => error,
        }
    }

    pub(crate) async fn stats(&self, instance: &str) -> Result<Option<SystemStats>, Error> {
        let mut stats = self.client.get_instance_stats(instance).await?;
        if stats.is_none() && self.store.exists(instance).await? {
            stats = Some(SystemStats {
                history_event_count: 0,
                history_size_bytes: 0,
                queue_pending_count: 0,
                kv_user_key_count: 0,
                kv_total_value_bytes: 0,
            });
        }
        // The bundled provider counts characters.
        if let Some(stats) = stats.as_mut().filter(|stats| stats.kv_user_key_count > 0) {
            let values = self.client.get_kv_all_values(instance).await?;
            stats.kv_total_value_bytes = values.values().map(|value| value.len() as u64).sum();
        }
        Ok(stats)
    }

    pub(crate) async fn system_metrics(&self) -> Result<SystemMetrics, Error> {
        Ok(self.client.get_system_metrics().await?)
    }

    pub(crate) async fn queue_depths(&self) -> Result<QueueDepths, Error> {
        Ok(self.client.get_queue_depths().await?)
    }

    /// The root, and all instances below it after it.
    pub(crate) async fn tree(&self, instance: &str) -> Result<TreeRecord, Error> {
        // The engine gives a tree of one for an instance that does not exist.
        self.info(instance).await?;
        let tree = self.client.whole_tree(instance).await.map_err(|failure| Error::of_instance(instance, failure))?;
        let mut ids = tree.all_ids;
        ids.sort_unstable_by(|left, right| (*left != tree.root_id, left).cmp(&(*right != tree.root_id, right)));
        Ok(TreeRecord { root_id: tree.root_id, all_ids: ids })
    }

    /// Terminates an instance, unless it has ended; whether this call has ended it.
    pub(super) async fn terminate(&self, request: Termination) -> Result<bool, Error> {
        self.check_exists(&request.instance).await?;
        let ended = self.adapter.terminate(&request).await.map_err(|error| gone(&request.instance, error))?;
        Ok(ended.contains(&request.instance))
    }

    pub(crate) async fn delete(&self, instance: &str, force: bool) -> Result<DeleteInstanceResult, Error> {
        let deleted = self.client.delete_tree(instance, force).await;
        let deleted = deleted.map_err(|failure| Error::of_instance(instance, failure))?;
        tracing::info!(target: CLIENT_LOG, instance_id = %instance, %force, ?deleted, "Deleted instance");
        Ok(deleted)
    }

    pub(crate) async fn delete_bulk(&self, filter: InstanceFilter) -> Result<DeleteInstanceResult, Error> {
        let deleted = self.client.delete_instance_bulk(filter.clone()).await?;
        tracing::info!(target: CLIENT_LOG, ?filter, ?deleted, "Bulk deleted instances");
        Ok(deleted)
    }

    pub(crate) async fn prune(&self, instance: &str, options: PruneOptions) -> Result<PruneResult, Error> {
        self.client.prune_executions(instance, options).await.map_err(|failure| Error::of_instance(instance, failure))
    }

    pub(crate) async fn prune_bulk(&self, filter: InstanceFilter, options: PruneOptions) -> Result<PruneResult, Error> {
        let pruned = self.client.prune_executions_bulk(filter.clone(), options.clone()).await?;
        tracing::info!(target: CLIENT_LOG, ?filter, ?options, ?pruned, "Bulk pruned executions");
        Ok(pruned)
    }
}

/// The instance was there a moment ago.
pub(super) fn gone(instance: &str, error: StoreError) -> Error {
    match error {
        StoreError::Failed(failure) => Error::of_instance(instance, failure),
        error => Error::Store(error),
    }
}
