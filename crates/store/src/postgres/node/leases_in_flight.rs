//! The leases in flight: those that may be on their way from the server to this node, or back.

use std::sync::Arc;

use tokio::sync::watch;

/// Counts the statements on their way that may grant leases or give leases back.
pub struct LeasesInFlight(Arc<watch::Sender<usize>>);

/// One such statement, until this is dropped.
pub struct LeaseInFlight(Arc<watch::Sender<usize>>);

impl Default for LeasesInFlight {
    fn default() -> Self {
        Self(Arc::new(watch::channel(0).0))
    }
}

impl LeasesInFlight {
    pub fn add(&self) -> LeaseInFlight {
        self.0.send_modify(|count| *count += 1);
        LeaseInFlight(Arc::clone(&self.0))
    }

    /// Waits until no lease is in flight.
    pub async fn wait_for_all(&self) {
        // This fails only without a sender, and `self` is one.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for LeaseInFlight {
    fn drop(&mut self) {
        self.0.send_modify(|count| {
            debug_assert!(*count > 0, "each lease in flight was counted");
            *count -= 1;
        });
    }
}
