//! What nodes tell each other: that there is work, and which instances have changed.
//!
//! A notification never rides with data: PostgreSQL lets only one transaction commit at a time that notifies. It is sent
//! afterwards, one for all that has gathered. It may get lost, and nodes of other languages send none, so nobody relies on it.

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

/// The server takes less than 8,000 bytes.
const MOST_BYTES: usize = 6_000;
/// How long is gathered before the next notification.
pub const GATHERING: Duration = Duration::from_millis(3);
const RECONNECT: Duration = Duration::from_millis(500);

#[derive(Default, Serialize, Deserialize)]
pub struct Notification {
    node: String,
    /// Whether there are turns for whoever is free.
    #[serde(default)]
    turns: bool,
    #[serde(default)]
    activities: bool,
    /// Instances that have ended, or say something new.
    #[serde(default)]
    changed: BTreeSet<String>,
    /// Whether more have changed than could be named.
    #[serde(default)]
    all: bool,
}

/// What is to be told next.
#[derive(Default)]
pub struct Notifier {
    news: Mutex<Option<Notification>>,
    sent: Mutex<Option<Instant>>,
}

impl Notifier {
    fn add(&self, add: impl FnOnce(&mut Notification)) {
        add(self.news.lock().get_or_insert_default());
    }

    pub fn tell_turns(&self) {
        self.add(|news| news.turns = true);
    }

    pub fn tell_activities(&self) {
        self.add(|news| news.activities = true);
    }

    pub fn tell_changed(&self, instance: &str) {
        self.add(|news| {
            news.changed.insert(instance.to_owned());
        });
    }

    pub fn is_empty(&self) -> bool {
        self.news.lock().is_none()
    }

    /// When the next notification may be sent.
    pub fn ready_at(&self) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        Some(self.sent.lock().map_or_else(Instant::now, |sent| sent + GATHERING))
    }

    /// What is to be sent now.
    pub fn take(&self, node: &str) -> Option<String> {
        let mut news = self.news.lock().take()?;
        *self.sent.lock() = Some(Instant::now());
        node.clone_into(&mut news.node);
        if news.changed.iter().map(|id| id.len() + 8).sum::<usize>() > MOST_BYTES {
            news.changed.clear();
            news.all = true;
        }
        serde_json::to_string(&news).ok()
    }
}

/// The channel of a schema. The server takes names of 63 bytes.
pub fn channel(schema: &str) -> String {
    let mut channel = format!("duroxide_{schema}");
    channel.truncate(63);
    channel
}

/// Hears what other nodes tell, until it is aborted.
pub async fn listen(core: Arc<NodeState>, events: Arc<dyn StoreEvents>) {
    loop {
        let heard = hear(&core, events.as_ref()).await;
        core.is_hearing.store(false, Ordering::Release);
        if let Err(error) = heard {
            tracing::debug!(target: "duroxide::store", "notifications are interrupted: {error}");
        }
        // Anything may have been missed.
        core.hint_turns();
        core.hint_activities();
        events.changed(None);
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn hear(core: &NodeState, events: &dyn StoreEvents) -> Result<(), sqlx::Error> {
    let options = PgConnectOptions::clone(&core.pool.connect_options());
    let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(&channel(&core.schema)).await?;
    core.is_hearing.store(true, Ordering::Release);
    // Whoever looked before this may have missed something.
    events.changed(None);
    while let Some(notification) = listener.try_recv().await? {
        let news: Notification = serde_json::from_str(notification.payload()).unwrap_or_else(|_| Notification {
            // From a transaction of an application, say.
            turns: true,
            activities: true,
            all: true,
            ..Notification::default()
        });
        if news.node == core.node {
            continue;
        }
        if news.turns {
            core.hint_turns();
        }
        if news.activities {
            core.hint_activities();
        }
        if news.all {
            events.changed(None);
        }
        for instance in &news.changed {
            events.changed(Some(instance));
        }
    }
    Ok(())
}
