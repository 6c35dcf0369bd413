//! Administration, which duroxide-pg does.

use async_trait::async_trait;
use duroxide::Event;
use duroxide::providers::{
    DeleteInstanceResult, ExecutionInfo, InstanceFilter, InstanceInfo, ProviderAdmin, PruneOptions, PruneResult,
    QueueDepths, SystemMetrics,
};

use crate::error::Result;
use crate::postgres::store::PostgresStore;

/// Operations that go to duroxide-pg as they are, through the door that keeps its connections few.
macro_rules! administer {
    ($($operation:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl ProviderAdmin for PostgresStore {
            $(async fn $operation(&self, $($argument: $kind),*) -> Result<$answer> {
                self.connections.rare.enter().await.$operation($($argument),*).await
            })*
        }
    };
}

administer! {
    list_instances() -> Vec<String>;
    list_instances_by_status(status: &str) -> Vec<String>;
    list_executions(instance: &str) -> Vec<u64>;
    read_history_with_execution_id(instance: &str, execution_id: u64) -> Vec<Event>;
    read_history(instance: &str) -> Vec<Event>;
    latest_execution_id(instance: &str) -> u64;
    get_instance_info(instance: &str) -> InstanceInfo;
    get_execution_info(instance: &str, execution_id: u64) -> ExecutionInfo;
    get_system_metrics() -> SystemMetrics;
    get_queue_depths() -> QueueDepths;
    list_children(instance_id: &str) -> Vec<String>;
    get_parent_id(instance_id: &str) -> Option<String>;
    delete_instances_atomic(ids: &[String], force: bool) -> DeleteInstanceResult;
    delete_instance_bulk(filter: InstanceFilter) -> DeleteInstanceResult;
    prune_executions(instance_id: &str, options: PruneOptions) -> PruneResult;
    prune_executions_bulk(filter: InstanceFilter, options: PruneOptions) -> PruneResult;
}
