//! The base provider, which is `duroxide-pg`'s own, behind a gate that limits its connections.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use duroxide_pg::PostgresProvider;
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::postgres::connect::hosts::close_idle;

/// Lets a few calls through at a time, since the pool of the base provider cannot be made smaller. The pool opens one
/// connection for each permit. If there is more than one permit, it opens at most one more while a released connection
/// is being returned.
#[derive(Clone)]
pub struct BaseProvider {
    provider: Arc<PostgresProvider>,
    gate: Arc<Semaphore>,
    permits_in_use: Arc<AtomicUsize>,
    /// The number of permits.
    permits: u32,
    /// Connections to a server that the store has left, which the pool waits for until the network gives them up.
    lost: Arc<AtomicUsize>,
}

impl BaseProvider {
    pub async fn new(provider: Arc<PostgresProvider>, connections: u32) -> Self {
        let (permits_in_use, lost) = (Arc::default(), Arc::default());
        // Opening the base provider used a connection to check the tables.
        wait_for_return(provider.pool(), &permits_in_use, &lost).await;
        let gate = Arc::new(Semaphore::new(connections as usize));
        Self { provider, gate, permits_in_use, permits: connections, lost }
    }

    /// The provider, past the gate.
    pub fn provider(&self) -> &Arc<PostgresProvider> {
        &self.provider
    }

    /// Closes the connections once the calls that use them have ended. New calls wait for that, and open new ones.
    pub async fn renew(&self) {
        let all = self.gate.acquire_many(self.permits).await;
        let pool = self.provider.pool();
        close_idle(pool);
        self.lost.store((pool.size() as usize).saturating_sub(pool.num_idle()), Ordering::Release);
        drop(all);
    }

    /// Waits at the gate for a permit for one call.
    pub async fn enter(&self) -> Permit {
        // The semaphore is never closed, so this cannot fail.
        let place = Arc::clone(&self.gate).acquire_owned().await.ok();
        self.permits_in_use.fetch_add(1, Ordering::AcqRel);
        Permit {
            provider: Arc::clone(&self.provider),
            permits_in_use: Arc::clone(&self.permits_in_use),
            place,
            lost: Arc::clone(&self.lost),
        }
    }
}

/// The right to one call of the base provider.
pub struct Permit {
    provider: Arc<PostgresProvider>,
    permits_in_use: Arc<AtomicUsize>,
    place: Option<OwnedSemaphorePermit>,
    lost: Arc<AtomicUsize>,
}

impl Deref for Permit {
    type Target = PostgresProvider;

    fn deref(&self) -> &PostgresProvider {
        &self.provider
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits_in_use.fetch_sub(1, Ordering::AcqRel);
        let (provider, lost) = (Arc::clone(&self.provider), Arc::clone(&self.lost));
        let permits_in_use = Arc::clone(&self.permits_in_use);
        let place = self.place.take();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            wait_for_return(provider.pool(), &permits_in_use, &lost).await;
            drop(place);
        });
    }
}

/// Waits until the pool has the connections of released permits back. The pool tests a returned connection first; a
/// call that came before the end of the test would open another connection.
async fn wait_for_return(pool: &PgPool, permits_in_use: &AtomicUsize, lost: &AtomicUsize) {
    const LONGEST: u32 = 1_000;
    for _ in 0..LONGEST {
        let used = (pool.size() as usize).saturating_sub(pool.num_idle());
        if used <= permits_in_use.load(Ordering::Acquire) + lost.load(Ordering::Acquire) {
            break;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// Carries out one operation in the base provider of a store, with its failure typed.
macro_rules! in_base_provider {
    ($store:ident, $operation:ident($($argument:expr),*)) => {{
        let call = async {
            let provider = $store.connections.base_provider.enter().await;
            let outcome = provider.$operation($($argument),*).await;
            outcome.map_err($crate::postgres::third_party_texts::of_base_provider)
        };
        $store.core.moves.answer(stringify!($operation), call).await
    }};
}
pub(crate) use in_base_provider;
