//! What relays bring from the outboxes of applications.

use crate::error::StoreError;
use crate::outbox::{Relay, Relayed, StartFilter};
use crate::sqlite::owner::operations::messages::InboxPosition;
use crate::sqlite::owner::{Accepted, Owner};
use crate::work_item::target;

/// An outbox stands among the inboxes, with a key in the place of a position.
fn name_of(outbox: &str) -> String {
    format!("outbox:{outbox}")
}

impl Owner {
    /// The key that is recorded for an outbox.
    pub fn relayed(&self, outbox: &str) -> Result<Option<i64>, StoreError> {
        // No row has the key 0.
        Ok(Some(self.inbox_position(&name_of(outbox))?).filter(|key| *key != 0))
    }

    /// Takes rows of an outbox over.
    pub async fn relay(&self, relay: Relay) -> Result<Relayed, StoreError> {
        // Held until the key is on the disk, where the next one looks.
        let _turn = self.relays.lock().await;
        let seen = self.relayed(&relay.outbox)?;
        if seen != relay.seen {
            return Ok(Relayed::Behind(seen));
        }
        self.core.admit("relay").await?;
        let mut sieve = StartFilter::default();
        let mut refused = Vec::new();
        for (place, message) in relay.messages.iter().enumerate() {
            let running = self.core.running(target(message))?;
            refused.extend(sieve.refuses(message, running.as_deref()).map(|reason| (place, reason)));
        }
        if !refused.is_empty() {
            return Ok(Relayed::Refused(refused));
        }
        let position = InboxPosition { inbox: name_of(&relay.outbox), position: relay.last };
        let written = self.core.submit_messages(relay.messages, 0, Some(position))?;
        // However long the disk takes: a relay that was given up would be repeated.
        self.settled(Accepted(written)).await?;
        Ok(Relayed::Done)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use duroxide::providers::WorkItem;

    use super::*;
    use crate::policy::StorePolicy;
    use crate::sqlite::file::connection;
    use crate::sqlite::owner::OwnerOptions;
    use crate::sqlite::testing::Folder;
    use crate::types::Durability;

    fn open(path: &Path) -> Arc<Owner> {
        let connection = connection::open(path, Durability::Full).unwrap();
        let file = Some(path.to_owned());
        Owner::open(OwnerOptions {
            description: "a store under test".to_owned(),
            connection,
            file,
            policy: StorePolicy::SHIPPED,
        })
        .unwrap()
    }

    fn start(instance: &str, orchestration: &str) -> WorkItem {
        crate::start::StartRequest {
            instance: instance.to_owned(),
            orchestration: orchestration.to_owned(),
            input: String::new(),
            version: None,
        }
        .into_message()
    }

    fn relay(seen: Option<i64>, last: i64, messages: Vec<WorkItem>) -> Relay {
        Relay { outbox: "shop".to_owned(), seen, last, messages }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_has_not_seen_the_last_key_is_told_it_also_after_a_restart() {
        let folder = Folder::new();
        let owner = open(&folder.join("store.db"));
        let rows = relay(None, -7, vec![start("a", "order")]);
        assert_eq!(owner.relay(rows.clone()).await, Ok(Relayed::Done));
        assert_eq!(owner.relay(rows.clone()).await, Ok(Relayed::Behind(Some(-7))));
        owner.close().await;

        let owner = open(&folder.join("store.db"));
        assert_eq!(owner.relayed("shop"), Ok(Some(-7)));
        assert_eq!(owner.relayed("another"), Ok(None));
        assert_eq!(owner.relay(rows).await, Ok(Relayed::Behind(Some(-7))));
        assert_eq!(owner.relay(relay(Some(-7), 8, vec![start("b", "order")])).await, Ok(Relayed::Done));
        owner.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_start_of_what_another_orchestration_runs_is_refused_and_nothing_is_sent() {
        let folder = Folder::new();
        let owner = open(&folder.join("store.db"));
        let rows = vec![start("a", "order"), start("a", "refund"), start("a", "order"), start("b", "order")];

        let outcome = owner.relay(relay(None, 1, rows)).await.unwrap();

        let Relayed::Refused(refused) = outcome else { panic!("{outcome:?}") };
        assert_eq!(refused.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1]);
        assert_eq!(owner.running("a"), Ok(None));
        assert_eq!(owner.relayed("shop"), Ok(None));
        owner.close().await;
    }
}
