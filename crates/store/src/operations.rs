//! The operations that the engine asks of a store, with typed failures: [`EngineOperations`] is the twin of the
//! engine's `Provider`, [`AdminOperations`] of its `ProviderAdmin`.
//!
//! Each signature stands once, in the two tables of this file. A table calls a macro with all of its rows: here the
//! macro makes the traits of them, in [`forward`](crate::forward) the implementations that pass every operation on. The
//! names are the engine's, so its documentation says what an operation must do, and its words stand in the failures.

use std::sync::Arc;

use async_trait::async_trait;
use duroxide::providers::{DeleteInstanceResult, InstanceTree, OrchestrationItem, WorkItem};

use crate::error::Result;
use crate::failure::{Failure, FailureKind};
use crate::turn_commit::TurnCommit;

/// A turn that was fetched: what it runs on, the token of its lease, and which attempt it is.
pub type FetchedTurn = (OrchestrationItem, String, u32);
/// An activity that was fetched: the message, the token of its lease, and which attempt it is.
pub type FetchedActivity = (WorkItem, String, u32);
/// A custom status, and how often the instance has set it.
pub type CustomStatusVersion = (Option<String>, u64);

/// The name of an operation in failures: the engine's.
#[macro_export]
macro_rules! operation_name {
    (commit_turn) => {
        "ack_orchestration_item"
    };
    ($operation:ident) => {
        stringify!($operation)
    };
}
pub use operation_name;

/// Calls a macro with the signatures of [`EngineOperations`], but for `commit_turn`, whose arguments the engine spreads
/// out.
#[doc(hidden)]
#[macro_export]
macro_rules! engine_signatures {
    ([$($macro:tt)*] $($context:tt)*) => {
        $($macro)*! {
            { $($context)* }
            fetch_orchestration_item(
                lock_timeout: ::std::time::Duration,
                poll_timeout: ::std::time::Duration,
                filter: Option<&::duroxide::providers::DispatcherCapabilityFilter>,
            ) -> Option<$crate::operations::FetchedTurn>;
            abandon_orchestration_item(
                token: &str, delay: Option<::std::time::Duration>, ignore_attempt: bool,
            ) -> ();
            renew_orchestration_item_lock(token: &str, extend_for: ::std::time::Duration) -> ();
            fetch_work_item(
                lock_timeout: ::std::time::Duration,
                poll_timeout: ::std::time::Duration,
                session: Option<&::duroxide::providers::SessionFetchConfig>,
                tag_filter: &::duroxide::providers::TagFilter,
            ) -> Option<$crate::operations::FetchedActivity>;
            ack_work_item(token: &str, completion: Option<::duroxide::providers::WorkItem>) -> ();
            renew_work_item_lock(token: &str, extend_for: ::std::time::Duration) -> ();
            abandon_work_item(token: &str, delay: Option<::std::time::Duration>, ignore_attempt: bool) -> ();
            renew_session_lock(
                owner_ids: &[&str], extend_for: ::std::time::Duration, idle_timeout: ::std::time::Duration,
            ) -> usize;
            cleanup_orphaned_sessions(idle_timeout: ::std::time::Duration) -> usize;
            enqueue_for_orchestrator(
                item: ::duroxide::providers::WorkItem, delay: Option<::std::time::Duration>,
            ) -> ();
            enqueue_for_worker(item: ::duroxide::providers::WorkItem) -> ();
            read(instance: &str) -> Vec<::duroxide::Event>;
            read_with_execution(instance: &str, execution_id: u64) -> Vec<::duroxide::Event>;
            append_with_execution(instance: &str, execution_id: u64, events: Vec<::duroxide::Event>) -> ();
            get_custom_status(
                instance: &str, last_seen_version: u64,
            ) -> Option<$crate::operations::CustomStatusVersion>;
            get_kv_value(instance: &str, key: &str) -> Option<String>;
            get_kv_all_values(instance: &str) -> ::std::collections::HashMap<String, String>;
            get_instance_stats(instance: &str) -> Option<::duroxide::SystemStats>;
        }
    };
}

/// Calls a macro with the signatures of [`AdminOperations`].
#[doc(hidden)]
#[macro_export]
macro_rules! admin_signatures {
    ([$($macro:tt)*] $($context:tt)*) => {
        $($macro)*! {
            { $($context)* }
            list_instances() -> Vec<String>;
            list_instances_by_status(status: &str) -> Vec<String>;
            list_executions(instance: &str) -> Vec<u64>;
            read_history_with_execution_id(instance: &str, execution_id: u64) -> Vec<::duroxide::Event>;
            read_history(instance: &str) -> Vec<::duroxide::Event>;
            latest_execution_id(instance: &str) -> u64;
            get_instance_info(instance: &str) -> ::duroxide::providers::InstanceInfo;
            get_execution_info(instance: &str, execution_id: u64) -> ::duroxide::providers::ExecutionInfo;
            get_system_metrics() -> ::duroxide::providers::SystemMetrics;
            get_queue_depths() -> ::duroxide::providers::QueueDepths;
            list_children(instance_id: &str) -> Vec<String>;
            get_parent_id(instance_id: &str) -> Option<String>;
            delete_instances_atomic(ids: &[String], force: bool) -> ::duroxide::providers::DeleteInstanceResult;
            delete_instance_bulk(
                filter: ::duroxide::providers::InstanceFilter,
            ) -> ::duroxide::providers::DeleteInstanceResult;
            prune_executions(
                instance_id: &str, options: ::duroxide::providers::PruneOptions,
            ) -> ::duroxide::providers::PruneResult;
            prune_executions_bulk(
                filter: ::duroxide::providers::InstanceFilter, options: ::duroxide::providers::PruneOptions,
            ) -> ::duroxide::providers::PruneResult;
        }
    };
}

macro_rules! define_engine_operations {
    ({} $($operation:ident($($argument:ident: $kind:ty),* $(,)?) -> $answer:ty;)*) => {
        /// What runtimes and clients ask of a store.
        #[async_trait]
        pub trait EngineOperations: Send + Sync + 'static {
            /// Commits the end of a turn in one transaction, and ends its lease. The engine's `ack_orchestration_item`.
            async fn commit_turn(&self, token: &str, commit: Arc<TurnCommit>) -> Result<()>;

            $(async fn $operation(&self, $($argument: $kind),*) -> Result<$answer>;)*
        }
    };
}

macro_rules! define_admin_operations {
    ({} $($operation:ident($($argument:ident: $kind:ty),* $(,)?) -> $answer:ty;)*) => {
        /// What operators ask of a store.
        #[async_trait]
        pub trait AdminOperations: Send + Sync + 'static {
            $(async fn $operation(&self, $($argument: $kind),*) -> Result<$answer>;)*

            /// The instance and all of its descendants, each after its parent.
            async fn get_instance_tree(&self, instance_id: &str) -> Result<InstanceTree> {
                let mut all_ids = vec![instance_id.to_owned()];
                let mut read = 0;
                while let Some(parent) = all_ids.get(read) {
                    let children = self.list_children(parent).await?;
                    all_ids.extend(children);
                    read += 1;
                }
                Ok(InstanceTree { root_id: instance_id.to_owned(), all_ids })
            }

            /// Deletes an instance and all of its descendants.
            async fn delete_instance(&self, instance_id: &str, force: bool) -> Result<DeleteInstanceResult> {
                if self.get_parent_id(instance_id).await?.is_some() {
                    return Err(Failure::new(
                        FailureKind::HasParent,
                        "delete_instance",
                        format!("Cannot delete sub-orchestration {instance_id} directly. Delete root instance instead."),
                    ));
                }
                let tree = self.get_instance_tree(instance_id).await?;
                self.delete_instances_atomic(&tree.all_ids, force).await
            }
        }
    };
}

engine_signatures!([define_engine_operations]);
admin_signatures!([define_admin_operations]);
