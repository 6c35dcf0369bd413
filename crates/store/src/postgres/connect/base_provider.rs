//! `duroxide-pg`'s own provider, for what is rare.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use duroxide_pg::PostgresProvider;
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// Its pool cannot be made smaller than it is, so a few are let in at a time. It opens a connection for each of them; if more
/// than one is let in, one more, when somebody comes who has been let in after one has left whose connection is not back yet.
#[derive(Clone)]
pub struct BaseProvider {
    provider: Arc<PostgresProvider>,
    door: Arc<Semaphore>,
    inside: Arc<AtomicUsize>,
}

impl BaseProvider {
    pub async fn new(provider: Arc<PostgresProvider>, connections: u32) -> Self {
        let inside = Arc::default();
        // The one that has verified the tables.
        come_back(provider.pool(), &inside).await;
        Self { provider, door: Arc::new(Semaphore::new(connections as usize)), inside }
    }

    /// The provider without a door.
    pub fn provider(&self) -> &Arc<PostgresProvider> {
        &self.provider
    }

    /// The provider, for one call.
    pub async fn enter(&self) -> Permit {
        // It is never closed.
        let permit = Arc::clone(&self.door).acquire_owned().await.ok();
        self.inside.fetch_add(1, Ordering::AcqRel);
        Permit { provider: Arc::clone(&self.provider), inside: Arc::clone(&self.inside), permit }
    }
}

/// Who was let in.
pub struct Permit {
    provider: Arc<PostgresProvider>,
    inside: Arc<AtomicUsize>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Deref for Permit {
    type Target = PostgresProvider;

    fn deref(&self) -> &PostgresProvider {
        &self.provider
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inside.fetch_sub(1, Ordering::AcqRel);
        let (provider, inside, permit) = (Arc::clone(&self.provider), Arc::clone(&self.inside), self.permit.take());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            come_back(provider.pool(), &inside).await;
            drop(permit);
        });
    }
}

/// Waits for the connections of those who have left: a pool takes one back by asking it whether it lives, and whoever came before
/// that would open another one.
async fn come_back(pool: &PgPool, inside: &AtomicUsize) {
    const LONGEST: u32 = 1_000;
    for _ in 0..LONGEST {
        let used = (pool.size() as usize).saturating_sub(pool.num_idle());
        if used <= inside.load(Ordering::Acquire) {
            break;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// Carries out one operation in the base provider of a store, with its failure typed.
macro_rules! in_base_provider {
    ($store:ident, $operation:ident($($argument:expr),*)) => {{
        let provider = $store.connections.rare.enter().await;
        let outcome = provider.$operation($($argument),*).await;
        outcome.map_err($crate::postgres::third_party_texts::of_base_provider)
    }};
}
pub(crate) use in_base_provider;
