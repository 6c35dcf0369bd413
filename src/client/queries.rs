//! What those who run the system ask for: lists, times, histories, metrics, deletion and pruning.

use duroxide::SystemStats;
use duroxide::client::ClientError;
use duroxide::providers::{
    DeleteInstanceResult, InstanceFilter, PruneOptions, PruneResult, QueueDepths, SystemMetrics,
};

use crate::boundary::errors::{Error, InstanceNotFound};
use crate::client::records::{EventRecord, ExecutionRecord, InstanceRecord, TreeRecord};
use crate::client::{OpenStore, of_engine, of_instance, of_store};
use store::error::StoreError;

const RUNNING: &str = "Running";

impl OpenStore {
    /// All instances, or those with a status, in the order of their ids.
    pub(crate) async fn list_instances(&self, status: Option<&str>) -> Result<Vec<String>, Error> {
        let admin = self.admin()?;
        let listed = match status {
            Some(status) => admin.list_instances_by_status(status).await,
            None => admin.list_instances().await,
        };
        let mut ids = listed.map_err(of_store)?;
        ids.sort_unstable();
        Ok(ids)
    }

    pub(crate) async fn instance_info(&self, instance: &str) -> Result<InstanceRecord, Error> {
        let info = self.info(instance).await?;
        // The bundled provider gives an empty text where there is no output yet.
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
        })
    }

    pub(crate) async fn execution_info(&self, instance: &str, execution_id: u64) -> Result<ExecutionRecord, Error> {
        let info = match self.admin()?.get_execution_info(instance, execution_id).await {
            Ok(info) => info,
            Err(error) => {
                return Err(match of_instance(instance, error) {
                    Error::NotFound(_) => self.no_execution(instance, execution_id).await,
                    error => error,
                });
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
            self.admin()?.list_executions(instance).await.map_err(|error| of_instance(instance, error))?;
        if executions.is_empty() {
            return Err(Error::NotFound(instance.to_owned()));
        }
        executions.sort_unstable();
        Ok(executions)
    }

    /// The events of one execution, the newest if none is named; none yet of an instance whose start is waiting.
    pub(crate) async fn history(&self, instance: &str, execution_id: Option<u64>) -> Result<Vec<EventRecord>, Error> {
        let execution_id = match execution_id {
            Some(execution_id) => execution_id,
            None => match self.info(instance).await {
                Ok(info) => info.current_execution_id,
                Err(Error::NotFound(_)) if self.store.exists(instance).await? => return Ok(Vec::new()),
                Err(error) => return Err(error),
            },
        };
        let read = self.admin()?.read_history_with_execution_id(instance, execution_id).await;
        let events = read.map_err(|error| of_instance(instance, error))?;
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
        let mut stats = self.provider.get_instance_stats(instance).await.map_err(of_store)?;
        // The bundled provider counts characters.
        if let Some(stats) = stats.as_mut().filter(|stats| stats.kv_user_key_count > 0) {
            let values = self.provider.get_kv_all_values(instance).await.map_err(of_store)?;
            stats.kv_total_value_bytes = values.values().map(|value| value.len() as u64).sum();
        }
        Ok(stats)
    }

    pub(crate) async fn system_metrics(&self) -> Result<SystemMetrics, Error> {
        self.admin()?.get_system_metrics().await.map_err(of_store)
    }

    pub(crate) async fn queue_depths(&self) -> Result<QueueDepths, Error> {
        self.admin()?.get_queue_depths().await.map_err(of_store)
    }

    /// The root, and all instances below it after it.
    pub(crate) async fn tree(&self, instance: &str) -> Result<TreeRecord, Error> {
        // The engine gives a tree of one for an instance that does not exist.
        self.info(instance).await?;
        let tree = self.admin()?.get_instance_tree(instance).await.map_err(|error| of_instance(instance, error))?;
        let mut ids = tree.all_ids;
        ids.sort_unstable_by(|left, right| (*left != tree.root_id, left).cmp(&(*right != tree.root_id, right)));
        Ok(TreeRecord { root_id: tree.root_id, all_ids: ids })
    }

    pub(crate) async fn delete(&self, instance: &str, force: bool) -> Result<DeleteInstanceResult, Error> {
        let deleted = self.engine().delete_instance(instance, force).await;
        deleted.map_err(|error| match error {
            // The two stores say it in different words, of which the engine knows one.
            ClientError::Provider(error) if error.message.contains("is Running") => {
                Error::Engine(ClientError::InstanceStillRunning { instance_id: instance.to_owned() })
            }
            error => of_engine(error),
        })
    }

    pub(crate) async fn delete_bulk(&self, filter: InstanceFilter) -> Result<DeleteInstanceResult, Error> {
        self.engine().delete_instance_bulk(filter).await.map_err(of_engine)
    }

    pub(crate) async fn prune(&self, instance: &str, options: PruneOptions) -> Result<PruneResult, Error> {
        self.admin()?.prune_executions(instance, options).await.map_err(|error| of_instance(instance, error))
    }

    pub(crate) async fn prune_bulk(&self, filter: InstanceFilter, options: PruneOptions) -> Result<PruneResult, Error> {
        self.engine().prune_executions_bulk(filter, options).await.map_err(of_engine)
    }
}

/// The instance was there a moment ago.
fn gone(instance: &str, error: StoreError) -> Error {
    match error {
        StoreError::Provider(error) => of_instance(instance, error),
        error => Error::Store(error),
    }
}
