//! The administration of a store, which the base provider does.

use duroxide::providers::{DeleteInstanceResult, ProviderAdmin as _, QueueDepths};

use crate::error::Result;
use crate::forward_admin_operations;
use crate::postgres::connect::base_provider::in_base_provider;
use crate::postgres::store::PostgresStore;

const DELETE: &str = "delete_instances_atomic";

macro_rules! administer {
    ($self:ident, delete_instances_atomic($ids:ident, $force:ident)) => {
        $self.delete($ids, $force).await
    };
    ($self:ident, get_instance_info($instance:ident)) => {
        $self.core.moves.answer("get_instance_info", $self.server().instance_info($instance)).await
    };
    ($self:ident, get_execution_info($instance:ident, $execution:ident)) => {
        $self.core.moves.answer("get_execution_info", $self.server().execution_info($instance, $execution)).await
    };
    ($self:ident, get_queue_depths()) => {
        $self.depths().await
    };
    ($self:ident, $operation:ident($($argument:ident),*)) => {
        in_base_provider!($self, $operation($($argument),*))
    };
}

forward_admin_operations!(PostgresStore, administer);

impl PostgresStore {
    async fn delete(&self, ids: &[String], force: bool) -> Result<DeleteInstanceResult> {
        if ids.is_empty() {
            return Ok(DeleteInstanceResult::default());
        }
        // The base provider counts the rows of instances, and an instance whose start waits has none.
        let (server, moves) = (self.server(), &self.core.moves);
        let waiting = moves.answer(DELETE, server.waiting_among(ids)).await?;
        // The base provider deletes table by table, so a turn that commits in between would leave a history without an
        // instance. Instances that have ended have no such turns.
        let token = format!("deletion.{}", self.core.token());
        if force {
            moves.answer(DELETE, server.keep_turns_out(ids, &token)).await?;
        }
        let deleted = in_base_provider!(self, delete_instances_atomic(ids, force));
        if force && deleted.is_err() {
            // If this fails, too, the lock ends by itself.
            let _ = moves.answer(DELETE, server.let_turns_in(ids, &token)).await;
        }
        let mut deleted = deleted?;
        deleted.instances_deleted += waiting.len() as u64;
        Ok(deleted)
    }

    /// The base provider counts no timers: to its queue they are messages that are not visible yet.
    async fn depths(&self) -> Result<QueueDepths> {
        let depths = in_base_provider!(self, get_queue_depths())?;
        let timer_queue = self.core.moves.answer("get_queue_depths", self.server().count_timers()).await?;
        Ok(QueueDepths { timer_queue, ..depths })
    }
}
