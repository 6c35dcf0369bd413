//! Takes over the rows that a relay has read from the outbox of an application.

use crate::error::StoreError;
use crate::outbox::{Relay, Relayed, StartFilter};
use crate::sqlite::owner::operations::messages::InboxPosition;
use crate::sqlite::owner::{Owner, PendingChanges};
use crate::work_item::target;

/// The name of an outbox in the table of inboxes. Its position there is the key of the last relayed row.
fn name_of(outbox: &str) -> String {
    format!("outbox:{outbox}")
}

impl Owner {
    /// The key of the last relayed row of an outbox.
    pub fn relayed(&self, outbox: &str) -> Result<Option<i64>, StoreError> {
        // No row has the key 0.
        Ok(Some(self.inbox_position(&name_of(outbox))?).filter(|key| *key != 0))
    }

    /// Takes over rows of an outbox.
    pub async fn relay(&self, relay: Relay) -> Result<Relayed, StoreError> {
        // Held until the key is on the disk, since the next relay reads the key from the disk.
        let _relay = self.relay_lock.lock().await;
        let seen = self.relayed(&relay.outbox)?;
        if seen != relay.seen {
            return Ok(Relayed::Behind(seen));
        }
        self.core.admit("relay").await?;
        let mut filter = StartFilter::default();
        let mut refused = Vec::new();
        for (index, message) in relay.messages.iter().enumerate() {
            let running = self.core.running(target(message))?;
            refused.extend(filter.refuses(message, running.as_deref()).map(|reason| (index, reason)));
        }
        if !refused.is_empty() {
            return Ok(Relayed::Refused(refused));
        }
        let position = InboxPosition { inbox: name_of(&relay.outbox), position: relay.last };
        let written = self.core.submit_messages(relay.messages, 0, Some(position))?;
        // Waits without a limit: a relay that fails here would be repeated.
        self.wait_until_written(PendingChanges(written)).await?;
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
            lock: None,
            policy: StorePolicy::SHIPPED,
            session_limits: Arc::default(),
        })
        .unwrap()
    }

    fn start(instance: &str, orchestration: &str) -> WorkItem {
        crate::start::StartRequest {
            instance: instance.to_owned(),
            orchestration: orchestration.to_owned(),
            input: String::new(),
            version: None,
            due_ms: None,
        }
        .into_message()
    }

    fn relay(seen: Option<i64>, last: i64, messages: Vec<WorkItem>) -> Relay {
        Relay { outbox: "shop".to_owned(), seen, last, messages }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_relay_behind_the_last_key_gets_it_also_after_a_restart() {
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
    async fn a_start_of_an_id_with_another_orchestration_is_refused_and_nothing_is_sent() {
        let folder = Folder::new();
        let owner = open(&folder.join("store.db"));
        let rows = vec![start("a", "order"), start("a", "refund"), start("a", "order"), start("b", "order")];

        let outcome = owner.relay(relay(None, 1, rows)).await.unwrap();

        let Relayed::Refused(refused) = outcome else { panic!("{outcome:?}") };
        assert_eq!(refused.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
        assert_eq!(owner.running("a"), Ok(None));
        assert_eq!(owner.relayed("shop"), Ok(None));
        owner.close().await;
    }
}
