//! `duroxide-pg`'s own provider, for what is rare.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use duroxide_pg::PostgresProvider;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// Its pool cannot be made smaller than it is, so a few are let in at a time. It opens a connection for each of them; if more
/// than one is let in, one more, when somebody comes who has been let in after one has left whose connection is not back yet.
#[derive(Clone)]
pub struct Rare {
    provider: Arc<PostgresProvider>,
    door: Arc<Semaphore>,
    inside: Arc<AtomicUsize>,
}

impl Rare {
    pub(super) fn new(provider: Arc<PostgresProvider>, connections: u32) -> Self {
        let door = Arc::new(Semaphore::new(connections as usize));
        Self { provider, door, inside: Arc::default() }
    }

    /// The provider without a door.
    pub fn provider(&self) -> &Arc<PostgresProvider> {
        &self.provider
    }

    /// The provider, for one call.
    pub async fn enter(&self) -> Entered {
        // It is never closed.
        let permit = Arc::clone(&self.door).acquire_owned().await.ok();
        self.inside.fetch_add(1, Ordering::AcqRel);
        Entered { provider: Arc::clone(&self.provider), inside: Arc::clone(&self.inside), permit }
    }
}

/// Who was let in.
pub struct Entered {
    provider: Arc<PostgresProvider>,
    inside: Arc<AtomicUsize>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Deref for Entered {
    type Target = PostgresProvider;

    fn deref(&self) -> &PostgresProvider {
        &self.provider
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        const LONGEST: u32 = 1_000;
        self.inside.fetch_sub(1, Ordering::AcqRel);
        let (provider, inside, permit) = (Arc::clone(&self.provider), Arc::clone(&self.inside), self.permit.take());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        // A pool takes a connection back by asking it whether it lives: whoever came before that would open another one.
        runtime.spawn(async move {
            let pool = provider.pool();
            for _ in 0..LONGEST {
                let used = (pool.size() as usize).saturating_sub(pool.num_idle());
                if used <= inside.load(Ordering::Acquire) {
                    break;
                }
                sleep(Duration::from_millis(1)).await;
            }
            drop(permit);
        });
    }
}
