//! The activities that run on this node now.
//!
//! A lease ends although its activity runs if the server is slow for longer than the lease can wait for its renewal. The
//! node that runs the activity must not take it again from itself: it would run twice at once in one process.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The rows of running activities, each with the time until which this node leaves it alone.
#[derive(Default)]
pub struct RunningActivities(Mutex<HashMap<i64, Instant>>);

impl RunningActivities {
    /// Notes that an activity begins, or that it still runs. A runtime that vanishes notes neither, so its activities are
    /// left alone for the time of one more lease only.
    pub fn note(&self, id: i64, lease: Duration) {
        self.0.lock().insert(id, Instant::now() + 2 * lease);
    }

    pub fn remove(&self, id: i64) {
        self.0.lock().remove(&id);
    }

    /// Forgets all activities, since the node has given all of them back.
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    pub fn ids(&self) -> Vec<i64> {
        let mut running = self.0.lock();
        let now = Instant::now();
        running.retain(|_, until| *until > now);
        running.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use duroxide::provider_validation::ProviderFactory as _;
    use duroxide::providers::{Provider, TagFilter, WorkItem};

    use super::*;
    use crate::policy::StorePolicy;
    use crate::postgres::conformance::PostgresFactory;

    /// The slow look for ended leases comes more often than this.
    const LOOK: Duration = Duration::from_millis(700);

    async fn leased(node: &Arc<dyn Provider>, lease: Duration, poll: Duration) -> Option<String> {
        let fetched = node.fetch_work_item(lease, poll, None, &TagFilter::DefaultOnly).await.unwrap();
        fetched.map(|(_, token, _)| token)
    }

    async fn add_activity(node: &Arc<dyn Provider>) {
        let activity = WorkItem::ActivityExecute {
            instance: "a".to_owned(),
            execution_id: 1,
            id: 2,
            name: "pack".to_owned(),
            input: String::new(),
            session_id: None,
            tag: None,
        };
        node.enqueue_for_worker(activity).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_renews_the_ended_lease_of_an_activity_that_it_runs() {
        const LEASE: Duration = Duration::from_secs(1);
        let factory = PostgresFactory::new(StorePolicy::SHIPPED).await;
        let node = factory.create_provider().await;
        add_activity(&node).await;
        let token = leased(&node, LEASE, LOOK).await.unwrap();
        // No renewal came in time.
        assert_eq!(leased(&node, LEASE, LEASE + LOOK).await, None);
        node.renew_work_item_lock(&token, LEASE).await.unwrap();
        node.ack_work_item(&token, None).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_takes_an_activity_again_whose_runtime_has_vanished() {
        const LEASE: Duration = Duration::from_millis(200);
        let factory = PostgresFactory::new(StorePolicy::SHIPPED).await;
        let node = factory.create_provider().await;
        add_activity(&node).await;
        leased(&node, LEASE, LOOK).await.unwrap();
        assert!(leased(&node, LEASE, 2 * LEASE + LOOK).await.is_some());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_node_takes_an_activity_whose_lease_has_ended() {
        const LEASE: Duration = Duration::from_millis(200);
        let factory = PostgresFactory::new(StorePolicy::SHIPPED).await;
        let node = factory.create_provider().await;
        add_activity(&node).await;
        let token = leased(&node, LEASE, LOOK).await.unwrap();
        let another_node = factory.create_another_node().await;
        assert!(leased(&another_node, LEASE, LEASE + LOOK).await.is_some());
        assert!(node.renew_work_item_lock(&token, LEASE).await.is_err());
    }
}
