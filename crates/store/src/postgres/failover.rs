//! Moves an opened store to another of its servers, when the one that it uses does not answer, or takes no writes any
//! more.
//!
//! The work of the store reports a doubt when a statement fails, or has no answer for long. Only then does the follower
//! look at the servers. It stays with the server in use if that is still what the URL requires.

use std::sync::Arc;

use sqlx::PgPool;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::backoff::{LONGEST_PAUSE, pause_after};
use crate::postgres::connect::Connections;
use crate::postgres::connect::base_provider::BaseProvider;
use crate::postgres::connect::hosts::{Choice, Failover, close_idle};
use crate::postgres::node::state::NodeState;

/// The task that looks for another server after a doubt.
pub struct Follower(AbortHandle);

impl Follower {
    /// Starts the task, if the store may have to move.
    pub fn start(connections: &mut Connections, core: &Arc<NodeState>) -> Option<Self> {
        let followed = Followed {
            failover: connections.failover.take()?,
            description: connections.description.clone(),
            pool: connections.pool.clone(),
            base_provider: connections.base_provider.clone(),
            core: Arc::clone(core),
        };
        Some(Self(tokio::spawn(followed.follow()).abort_handle()))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Followed {
    failover: Failover,
    /// The name of the store for logs.
    description: String,
    pool: PgPool,
    base_provider: BaseProvider,
    core: Arc<NodeState>,
}

impl Followed {
    async fn follow(mut self) {
        loop {
            self.core.moves.doubted().await;
            let mut failures = 0;
            while !self.look().await {
                failures += 1;
                sleep(pause_after(failures, LONGEST_PAUSE)).await;
            }
        }
    }

    /// Looks at the servers, and moves to another one if that is needed. Returns whether a server can be used.
    async fn look(&mut self) -> bool {
        let Choice { chosen, failures } = self.failover.hosts.look(self.failover.in_use.place).await;
        let Some((chosen, _)) = chosen else { return false };
        if chosen.place != self.failover.in_use.place {
            let reason = failures.first().map(|failure| self.failover.hosts.fact_of(failure)).unwrap_or_default();
            self.move_to(chosen.place, &reason);
        } else if chosen.started != self.failover.in_use.started {
            // The server has restarted, or its name leads to another one.
            self.leave_connections();
        }
        self.failover.in_use = chosen;
        true
    }

    fn move_to(&self, place: usize, reason: &str) {
        let (former, chosen) = (self.failover.hosts.at(self.failover.in_use.place), self.failover.hosts.at(place));
        tracing::warn!(
            target: "duroxide::store",
            store = %self.description,
            "the store moves from {} to {}: {}: {reason}",
            former.address,
            chosen.address,
            former.address
        );
        self.pool.set_connect_options(chosen.options.clone());
        self.base_provider.provider().pool().set_connect_options(chosen.options.clone());
        self.leave_connections();
    }

    /// Ends all work on the former server, and closes the connections to it: at once, or when they come back to their
    /// pool.
    fn leave_connections(&self) {
        let core = &self.core;
        core.moves.note();
        close_idle(&self.pool);
        core.moves.end_work();
        // If the replica lagged behind, it lacks the last events.
        core.histories.clear();
        let base_provider = self.base_provider.clone();
        tokio::spawn(async move { base_provider.renew().await });
        core.hint_turns();
        core.hint_activities();
    }
}
