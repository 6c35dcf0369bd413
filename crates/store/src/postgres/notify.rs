//! Notifications between nodes: that there is work, and which instances have changed.
//!
//! PostgreSQL lets only one transaction commit at a time that notifies, so a notification is never sent in a
//! transaction with data. It is sent afterwards, one for all changes that have gathered. A notification may get lost,
//! and nodes of other languages send none, so no part of the store depends on it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::Instant;

use crate::events::StoreEvents;
use crate::postgres::node::state::NodeState;

/// The limit for the names of the changed instances. The server takes less than 8,000 bytes.
const MOST_BYTES: usize = 6_000;
/// The shortest time between two notifications. Changes gather until then.
pub const NOTIFY_INTERVAL: Duration = Duration::from_millis(3);
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

#[derive(Default, Serialize, Deserialize)]
pub struct Notification {
    node: String,
    /// Whether there are turns that a free node can take.
    #[serde(default)]
    turns: bool,
    #[serde(default)]
    activities: bool,
    /// Instances that have ended, or have changed in a way that clients wait for.
    #[serde(default)]
    changed: BTreeSet<String>,
    /// Whether more instances have changed than the notification could name.
    #[serde(default)]
    all: bool,
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

/// Receives the notifications of other nodes, until it is aborted.
pub async fn listen(core: Arc<NodeState>, events: Arc<dyn StoreEvents>) {
    loop {
        let outcome = receive(&core, events.as_ref()).await;
        core.is_listening.store(false, Ordering::Release);
        if let Err(error) = outcome {
            tracing::debug!(target: "duroxide::store", "notifications are interrupted: {error}");
        }
        // Notifications may have been missed, so the poller looks for work, and all waits read their instances.
        core.hint_turns();
        core.hint_activities();
        events.changed(None);
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

async fn receive(core: &NodeState, events: &dyn StoreEvents) -> Result<(), sqlx::Error> {
    let options = PgConnectOptions::clone(&core.pool.connect_options());
    let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(&channel(&core.schema)).await?;
    core.is_listening.store(true, Ordering::Release);
    // A wait that read its instance before this may have missed a change.
    events.changed(None);
    while let Some(received) = listener.try_recv().await? {
        let notification: Notification = serde_json::from_str(received.payload()).unwrap_or_else(|_| Notification {
            // A payload of another form may come from a transaction of an application.
            turns: true,
            activities: true,
            all: true,
            ..Notification::default()
        });
        if notification.node == core.node {
            continue;
        }
        if notification.turns {
            core.hint_turns();
        }
        if notification.activities {
            core.hint_activities();
        }
        if notification.all {
            events.changed(None);
        }
        for instance in &notification.changed {
            events.changed(Some(instance));
        }
    }
    Ok(())
}
