//! Notifications between nodes: that there is work, and which instances have changed.
//!
//! PostgreSQL lets only one transaction commit at a time that notifies, so a notification is never sent in a
//! transaction with data. It is sent afterwards, one for all changes that have gathered. A notification may get lost,
//! and nodes of other languages send none, so no part of the store depends on it.
//!
//! Each role of the database can listen, and each can notify. So a notification names an instance by a keyed hash of its
//! id, and the schema keeps the key. And a node gathers what it hears, so that a flood of notifications costs the server
//! few statements.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// How much of a hash stands for an instance. Two instances with one digest would only wake each other's waits.
const DIGEST_BYTES: usize = 12;
/// The limit for the digests of the changed instances. The server takes less than 8,000 bytes.
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
    /// The ids of changed instances, from nodes of earlier versions.
    #[serde(default, skip_serializing)]
    pub changed: BTreeSet<String>,
    /// The digests of instances that have ended, or have changed in a way that clients wait for.
    #[serde(default)]
    pub digests: BTreeSet<String>,
    /// Whether more instances have changed than the notification could name. A node of an earlier version does not know
    /// digests, so this is also true where there are some.
    #[serde(default)]
    pub all: bool,
}

/// The key of the digests, which only the roles of the schema can read.
#[derive(Clone)]
pub struct DigestKey(pub String);

impl DigestKey {
    /// What a notification says in place of the id of an instance.
    pub fn digest(&self, instance: &str) -> String {
        let hash = Sha256::new().chain_update(&self.0).chain_update([0]).chain_update(instance).finalize();
        hash[..DIGEST_BYTES].iter().fold(String::with_capacity(2 * DIGEST_BYTES), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// Gathers the changes for the next notification.
#[derive(Default)]
pub struct Notifier {
    /// `None` if this role may not read the key. Then the notifications name no instances.
    key: Option<DigestKey>,
    pending: Mutex<Option<Notification>>,
    sent: Mutex<Option<Instant>>,
}

impl Notifier {
    pub fn new(key: Option<DigestKey>) -> Self {
        Self { key, ..Self::default() }
    }

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
        let digest = self.digest(instance);
        self.add(|notification| {
            notification.all = true;
            notification.digests.extend(digest);
        });
    }

    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The digest of an instance, if this role may read the key.
    pub fn digest(&self, instance: &str) -> Option<String> {
        self.key.as_ref().map(|key| key.digest(instance))
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
        // Without digests, the notification stands for all instances.
        if notification.digests.len() * (2 * DIGEST_BYTES + 3) > MOST_BYTES {
            notification.digests.clear();
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

/// The shortest time between two looks at the server because of notifications.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// The shortest time between two looks of all waits because of notifications that name no instance.
const LOOK_OF_ALL_INTERVAL: Duration = Duration::from_millis(100);
/// How many digests are gathered. More of them stand for all instances.
const MOST_DIGESTS: usize = 10_000;

/// What notifications say that this node has not looked at yet.
#[derive(Default)]
pub struct Heard {
    pub turns: bool,
    pub activities: bool,
    pub digests: BTreeSet<String>,
    /// Ids, from nodes of earlier versions.
    pub instances: BTreeSet<String>,
}

/// Gathers the notifications that this node hears. A look follows the first of them at once, and the next one after a
/// pause, whatever the number of notifications.
#[derive(Default)]
pub struct Hearing {
    heard: Mutex<Heard>,
    heard_any: Notify,
    heard_all: Notify,
}

impl Hearing {
    /// Takes a notification in.
    pub fn hear(&self, notification: Notification) {
        let Notification { turns, activities, changed, digests, all, .. } = notification;
        let mut heard = self.heard.lock();
        heard.turns |= turns;
        heard.activities |= activities;
        let names_any = !digests.is_empty() || !changed.is_empty();
        heard.digests.extend(digests);
        heard.instances.extend(changed);
        let too_many = heard.digests.len() + heard.instances.len() > MOST_DIGESTS;
        if too_many {
            heard.digests.clear();
            heard.instances.clear();
        }
        drop(heard);
        self.heard_any.notify_one();
        if too_many || all && !names_any {
            self.heard_all.notify_one();
        }
    }

    /// Calls `look` with what was heard, and `look_at_all` when all waits are to look, until it is aborted.
    pub async fn follow(&self, look: impl Fn(Heard), look_at_all: impl Fn()) {
        let follow_any = async {
            loop {
                self.heard_any.notified().await;
                look(std::mem::take(&mut *self.heard.lock()));
                sleep(LOOK_INTERVAL).await;
            }
        };
        let follow_all = async {
            loop {
                self.heard_all.notified().await;
                look_at_all();
                sleep(LOOK_OF_ALL_INTERVAL).await;
            }
        };
        tokio::join!(follow_any, follow_all);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_flood_of_notifications_makes_few_looks() {
        let (hearing, looks, all) = (Hearing::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        let began = Instant::now();
        let flood = async {
            for _ in 0..20_000 {
                hearing.hear(Notification { turns: true, all: true, ..Notification::default() });
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = flood => {}
            () = hearing.follow(|_| _ = looks.fetch_add(1, Ordering::Relaxed), || _ = all.fetch_add(1, Ordering::Relaxed)) => {}
        }
        let intervals =
            |interval: Duration| usize::try_from(began.elapsed().as_millis() / interval.as_millis()).unwrap();
        assert!((1..=intervals(LOOK_INTERVAL) + 1).contains(&looks.into_inner()));
        assert!((1..=intervals(LOOK_OF_ALL_INTERVAL) + 1).contains(&all.into_inner()));
    }

    #[test]
    fn a_notification_does_not_name_an_instance() {
        let notifier = Notifier::new(Some(DigestKey("key".to_owned())));
        notifier.announce_changed("invoice-of-ada");
        let sent = notifier.take("node").unwrap();
        assert!(!sent.contains("ada"));
        let received: Notification = serde_json::from_str(&sent).unwrap();
        assert_eq!(received.digests.into_iter().next(), notifier.digest("invoice-of-ada"));
    }

    #[test]
    fn an_earlier_version_understands_that_any_instance_may_have_changed() {
        let notifier = Notifier::new(Some(DigestKey("key".to_owned())));
        notifier.announce_changed("one");
        let sent: serde_json::Value = serde_json::from_str(&notifier.take("node").unwrap()).unwrap();
        assert_eq!(sent["all"], true);
    }

    #[test]
    fn another_key_gives_another_digest() {
        let digest = |key: &str| DigestKey(key.to_owned()).digest("one");
        assert_ne!(digest("key"), digest("other"));
    }
}
