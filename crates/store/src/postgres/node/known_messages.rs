//! Remembers the messages that are held back, so that a turn need not read them again.
//!
//! If an instance has many of them, the server sends only their ids with a lease. The turn still decides on all messages:
//! a turn begins only when this node has the text of each of them.

use std::collections::HashMap;
use std::sync::Arc;

use duroxide::providers::WorkItem;
use parking_lot::Mutex;

use crate::postgres::node::generations::{CacheEntry, Generations};

/// The limit for all messages together, as JSON.
const MOST_BYTES: usize = 32 << 20;

/// The list that the server sends instead of the messages.
#[derive(Debug, Clone, Default)]
pub struct HeldList {
    /// The rows, in order.
    pub ids: Vec<i64>,
    /// Changes when the ids may name other messages: with the server, and after a crash of it.
    pub mark: String,
}

/// A message that this node has read, and its size as JSON.
pub type KnownMessage = (Arc<WorkItem>, usize);

struct KnownMessages {
    created_us: i64,
    mark: String,
    messages: HashMap<i64, KnownMessage>,
    bytes: usize,
}

impl CacheEntry for KnownMessages {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

pub struct MessageCache(Mutex<Generations<KnownMessages>>);

impl Default for MessageCache {
    fn default() -> Self {
        Self(Mutex::new(Generations::within(MOST_BYTES)))
    }
}

impl MessageCache {
    /// The messages of the list that this node knows.
    pub fn get(&self, instance: &str, created_us: i64, list: &HeldList) -> HashMap<i64, KnownMessage> {
        let mut generations = self.0.lock();
        let Some(known) = generations.get(instance) else { return HashMap::new() };
        if known.created_us != created_us || known.mark != list.mark {
            return HashMap::new();
        }
        let pairs = list.ids.iter().filter_map(|id| Some((*id, known.messages.get(id)?.clone())));
        pairs.collect()
    }

    /// Remembers all messages of a list, instead of those of an earlier list.
    pub fn put(&self, instance: &str, created_us: i64, mark: String, messages: HashMap<i64, KnownMessage>) {
        let bytes = messages.values().map(|(_, bytes)| bytes).sum();
        self.0.lock().put(instance, KnownMessages { created_us, mark, messages, bytes });
    }

    pub fn forget(&self, instance: &str) {
        self.0.lock().forget(instance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> KnownMessage {
        let (instance, name) = ("instance".to_owned(), "go".to_owned());
        (Arc::new(WorkItem::ExternalRaised { instance, name, data: String::new() }), 10)
    }

    fn list(ids: &[i64], mark: &str) -> HeldList {
        HeldList { ids: ids.to_vec(), mark: mark.to_owned() }
    }

    fn known(ids: &[i64]) -> MessageCache {
        let cache = MessageCache::default();
        cache.put("instance", 1, "server".to_owned(), ids.iter().map(|id| (*id, message())).collect());
        cache
    }

    #[test]
    fn only_the_messages_of_the_list_are_known() {
        let found = known(&[4, 5]).get("instance", 1, &list(&[5, 6], "server"));

        assert_eq!(found.into_keys().collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn another_server_may_give_the_ids_to_other_messages() {
        assert!(known(&[4]).get("instance", 1, &list(&[4], "promoted")).is_empty());
    }

    #[test]
    fn an_instance_that_was_created_again_has_other_messages() {
        assert!(known(&[4]).get("instance", 2, &list(&[4], "server")).is_empty());
    }
}
