//! Removing what ended long ago, a portion at a time.

use std::time::Duration;

use duroxide::providers::{InstanceFilter, ProviderAdmin as _};

use super::Store;
use super::backend::{Database, patiently};
use super::client::ClientView;
use super::clock::{milliseconds, now_ms};
use super::error::StoreError;
use super::failure::{Patience, Retry};

impl Store {
    /// Whether this process works on the store, and does not only stand by or look at it.
    pub fn is_at_work(&self) -> bool {
        match &self.backend().database {
            Database::Embedded(store) => store.change().is_none(),
            Database::Postgres(_) => true,
        }
    }

    /// Removes at most `limit` of the instances that ended longer ago than `kept`, and their sub-orchestrations; how many
    /// that were in all.
    pub async fn remove_ended(&self, kept: Duration, limit: u32) -> Result<u64, StoreError> {
        let before = now_ms().saturating_sub(milliseconds(kept));
        let backend = self.backend();
        let instance_ids = match &backend.database {
            Database::Embedded(_) => None,
            // Its provider would take instances that are between two executions, and to leave them out it would have to be
            // told all others.
            Database::Postgres(store) => {
                let server = store.server();
                let mut retry = Retry::new(Patience::Caller);
                Some(patiently!(backend, "delete_instance_bulk", &mut retry, server.ended(before, limit))?)
            }
        };
        if instance_ids.as_ref().is_some_and(Vec::is_empty) {
            return Ok(0);
        }
        let filter = InstanceFilter { instance_ids, completed_before: Some(before), limit: Some(limit) };
        let view = ClientView { shared: self.0.shared.clone() };
        Ok(view.delete_instance_bulk(filter).await?.instances_deleted)
    }
}
