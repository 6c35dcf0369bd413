//! Notifications between nodes: that there is work, and which instances have changed.
//!
//! PostgreSQL lets only one transaction commit at a time that notifies, so a notification is never sent in a
//! transaction with data. It is sent afterwards, one for all changes that have gathered. A notification may get lost,
//! and nodes of other languages send none, so no part of the store depends on it.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// The limit for the names of the changed instances. The server takes less than 8,000 bytes.
const MOST_BYTES: usize = 6_000;
/// The shortest time between two notifications. Changes gather until then.
pub const NOTIFY_INTERVAL: Duration = Duration::from_millis(3);

#[derive(Default, Serialize, Deserialize)]
pub struct Notification {
    /// The node that sends it.
    pub node: String,
    /// Whether there are turns that a free node can take.
    #[serde(default)]
    pub turns: bool,
    #[serde(default)]
    pub activities: bool,
    /// Instances that have ended, or have changed in a way that clients wait for.
    #[serde(default)]
    pub changed: BTreeSet<String>,
    /// Whether more instances have changed than the notification could name.
    #[serde(default)]
    pub all: bool,
}

/// Gathers the changes for the next notification.
#[derive(Default)]
pub struct Notifier {
    pending: Mutex<Option<Notification>>,
    sent: Mutex<Option<Instant>>,
}

impl Notifier {
    fn add(&self, add: impl FnOnce(&mut Notification)) {
        add(self.pending.lock().get_or_insert_default());
    }

    pub fn announce_turns(&self) {
        self.add(|notification| notification.turns = true);
    }

    pub fn announce_activities(&self) {
        self.add(|notification| notification.activities = true);
    }

    pub fn announce_changed(&self, instance: &str) {
        self.add(|notification| {
            notification.changed.insert(instance.to_owned());
        });
    }

    pub fn is_empty(&self) -> bool {
        self.pending.lock().is_none()
    }

    /// When the next notification may be sent.
    pub fn ready_at(&self) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        Some(self.sent.lock().map_or_else(Instant::now, |sent| sent + NOTIFY_INTERVAL))
    }

    /// Takes the payload of the next notification.
    pub fn take(&self, node: &str) -> Option<String> {
        let mut notification = self.pending.lock().take()?;
        *self.sent.lock() = Some(Instant::now());
        node.clone_into(&mut notification.node);
        if notification.changed.iter().map(|id| id.len() + 8).sum::<usize>() > MOST_BYTES {
            notification.changed.clear();
            notification.all = true;
        }
        serde_json::to_string(&notification).ok()
    }
}

/// The channel of a schema. The server takes names of at most 63 bytes.
pub fn channel(schema: &str) -> String {
    let mut channel = format!("duroxide_{schema}");
    channel.truncate(63);
    channel
}
