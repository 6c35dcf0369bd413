//! Describes what is under way for an instance, from the memory of the owner.

use std::time::Instant;

use duroxide::providers::WorkItem;

use crate::live::{LeaseHolder, LiveState, moment_ms};
use crate::sqlite::owner::core::OwnerCore;

impl OwnerCore {
    /// What is under way for an instance. The node that holds its leases is this process.
    pub fn live_state(&self, id: &str) -> LiveState {
        let mut live = LiveState::default();
        let mut state = self.lock();
        let Some(number) = state.numbers.get(id).copied() else { return live };
        live.activities = state.activities.describe(number, Instant::now());
        let Some(instance) = state.get(number) else { return live };
        live.has_work = instance.is_ready;
        live.turn =
            instance.leased.as_ref().map(|leased| LeaseHolder { node: None, since_ms: Some(moment_ms(leased.since)) });
        let messages = instance.queue.iter().chain(instance.put_off.values()).chain(instance.delayed.values());
        for message in messages {
            match &*message.item {
                WorkItem::ExternalRaised { name, .. } => live.add_message(true, name),
                WorkItem::QueueMessage { name, .. } => live.add_message(false, name),
                _ => {}
            }
        }
        live
    }

    /// How many sessions the workers of these names hold.
    pub fn count_sessions(&self, workers: &[String]) -> usize {
        self.lock().activities.count_sessions(workers, Instant::now())
    }
}
