//! Removing instances that ended long ago, while a runtime works.

use std::time::{Duration, Instant};

use pyo3::PyResult;
use tokio::task::JoinHandle;

use crate::bridge;
use crate::store::{Store, StoreError};

const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Removed in one go, which others have to wait for.
const PORTION: u32 = 100;
/// Between two portions at least this long.
const BREATH: Duration = Duration::from_millis(10);

/// Removes until it is dropped, and then stops at once.
pub(crate) struct Retention(JoinHandle<()>);

impl Retention {
    pub(crate) fn start(store: Store, kept: Duration) -> PyResult<Self> {
        Ok(Self(bridge::spawn(watch(store, kept))?))
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch(store: Store, kept: Duration) {
    let pause = (kept / 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    loop {
        if store.is_at_work() {
            match remove(&store, kept).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(
                    target: "duroxide::retention",
                    removed,
                    "{removed} instances were removed that had ended more than {kept:?} ago"
                ),
                Err(error) => tracing::warn!(
                    target: "duroxide::retention",
                    "instances that ended long ago could not be removed: {error}; it is tried again in {pause:?}"
                ),
            }
        }
        tokio::time::sleep(pause).await;
    }
}

async fn remove(store: &Store, kept: Duration) -> Result<u64, StoreError> {
    let mut total = 0;
    loop {
        let began = Instant::now();
        let removed = store.remove_ended(kept, PORTION).await?;
        total += removed;
        if removed < u64::from(PORTION) {
            return Ok(total);
        }
        // At least half of the store's time is for its work.
        tokio::time::sleep(began.elapsed().max(BREATH)).await;
    }
}
