//! What relays bring from the outboxes of applications.

use super::messages::InboxPosition;
use super::{Accepted, Owner};
use crate::store::error::StoreError;
use crate::store::relay::{Relay, Relayed, Sieve};
use crate::store::shared::target;

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
        let mut sieve = Sieve::default();
        let mut refused = Vec::new();
        for (place, message) in relay.messages.iter().enumerate() {
            let running = match target(message) {
                Some(instance) => self.core.running(instance)?,
                None => None,
            };
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
