//! The store for the engine's operations: each goes to the role that this process has for the file at that moment.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::error::Result;
use crate::forward::{forward_admin_operations, forward_engine_operations};
use crate::sqlite::owner_session::OwnerSession;
use crate::sqlite::store::{Role, SqliteStore};

/// Runs one operation in the role that this process has now.
macro_rules! in_role {
    ($self:ident, $operation:ident($($argument:expr),*)) => {
        match $self.role()? {
            Role::Owner(session) => session.owner.$operation($($argument),*).await,
            Role::Client(client) => client.$operation($($argument),*).await,
        }
    };
}

/// As [`in_role`], once more where the owner was closed under the operation, which then was not carried out.
macro_rules! in_either_role {
    ($self:ident, $operation:ident($($argument:ident),*)) => {
        match in_role!($self, $operation($($argument.clone()),*)) {
            Err(failure) if $self.has_changed_its_role(&failure) => in_role!($self, $operation($($argument),*)),
            outcome => outcome,
        }
    };
}

/// Waits until this process is the owner, and fetches from it.
macro_rules! as_owner {
    ($self:ident, $operation:ident($lease:ident, $poll:ident $(, $argument:ident)*)) => {{
        let deadline = Instant::now() + $poll;
        while let Some((session, rest)) = $self.wait_for_ownership(deadline).await? {
            match session.owner.$operation($lease, rest $(, $argument)*).await {
                Err(failure) if $self.has_changed_its_role(&failure) => {}
                outcome => return outcome,
            }
        }
        Ok(None)
    }};
}

macro_rules! by_role {
    ($self:ident, fetch_orchestration_item($($argument:ident),*)) => {
        as_owner!($self, fetch_orchestration_item($($argument),*))
    };
    ($self:ident, fetch_work_item($($argument:ident),*)) => {
        as_owner!($self, fetch_work_item($($argument),*))
    };
    ($self:ident, enqueue_for_orchestrator($($argument:ident),*)) => {
        in_either_role!($self, enqueue_for_orchestrator($($argument),*))
    };
    ($self:ident, delete_instance_bulk($($argument:ident),*)) => {
        in_either_role!($self, delete_instance_bulk($($argument),*))
    };
    ($self:ident, prune_executions_bulk($($argument:ident),*)) => {
        in_either_role!($self, prune_executions_bulk($($argument),*))
    };
    ($self:ident, $operation:ident($($argument:ident),*)) => {
        in_role!($self, $operation($($argument),*))
    };
}

forward_engine_operations!(SqliteStore, by_role);
forward_admin_operations!(SqliteStore, by_role);

impl SqliteStore {
    /// The session of this process and the time until `deadline`, as soon as it is the owner; `None` if it is not in
    /// time.
    async fn wait_for_ownership(&self, deadline: Instant) -> Result<Option<(Arc<OwnerSession>, Duration)>> {
        loop {
            let mut changes = self.next_role();
            if let Role::Owner(work) = self.role()? {
                let rest = deadline.saturating_duration_since(Instant::now());
                return Ok(Some((work, rest)));
            }
            if timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(None);
            }
        }
    }
}
