//! Removing instances that ended long ago, while a runtime works.

use std::time::{Duration, Instant};

use pyo3::PyResult;
use tokio::task::JoinHandle;

use crate::boundary;
use engine_adapter::EngineAdapter;
use store::error::StoreError;

const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Removed in one go, which others have to wait for.
const BATCH_SIZE: u32 = 100;
/// Between two portions at least this long.
const PAUSE_BETWEEN_BATCHES: Duration = Duration::from_millis(10);

/// Removes until it is dropped, and then stops at once.
pub(crate) struct Retention(JoinHandle<()>);

impl Retention {
    pub(crate) fn start(adapter: EngineAdapter, kept: Duration) -> PyResult<Self> {
        Ok(Self(boundary::spawn(watch(adapter, kept))?))
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch(adapter: EngineAdapter, kept: Duration) {
    let pause = (kept / 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    loop {
        if adapter.store().is_at_work() {
            match remove(&adapter, kept).await {
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

async fn remove(adapter: &EngineAdapter, kept: Duration) -> Result<u64, StoreError> {
    let mut total = 0;
    loop {
        let began = Instant::now();
        let removed = adapter.remove_ended(kept, BATCH_SIZE).await?;
        total += removed;
        if removed < u64::from(BATCH_SIZE) {
            return Ok(total);
        }
        // At least half of the store's time is for its work.
        tokio::time::sleep(began.elapsed().max(PAUSE_BETWEEN_BATCHES)).await;
    }
}
