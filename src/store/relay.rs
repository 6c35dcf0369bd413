//! What an application wrote into an outbox, a table of its own database, taken over into the store once.
//!
//! Every row of an outbox has a random key. With the messages of some rows the store records the key of the last of them, in
//! the same transaction. A relay says which key it has seen there: if another one is recorded meanwhile, it is told that one,
//! and nothing is sent. So whoever relays next, after a crash or at the same time, finds out which rows are done.

use std::collections::HashMap;

use duroxide::providers::{ProviderError, WorkItem};
use sqlx::{PgConnection, Postgres, Transaction};

use super::Store;
use super::backend::{Backend, Database, Server, failed};
use super::error::StoreError;
use super::shared::target;
use super::start::exists;

/// Rows of an outbox, in order.
#[derive(Debug, Clone)]
pub struct Relay {
    /// The name of the outbox.
    pub outbox: String,
    /// The key that was recorded when the rows were read.
    pub seen: Option<i64>,
    /// The key of the last row.
    pub last: i64,
    pub messages: Vec<WorkItem>,
}

/// What became of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relayed {
    /// They are in the store.
    Done,
    /// Some are refused for good, by their places, with the reason; nothing was sent.
    Refused(Vec<(usize, String)>),
    /// Another key is recorded; nothing was sent.
    Behind(Option<i64>),
    /// Another process works on the store, and relays.
    Elsewhere,
}

/// Decides about each message by what its instance runs: `None` to send it, or why it is refused. A start of what is started
/// already is sent too; the engine drops it.
#[derive(Default)]
pub(super) struct Sieve {
    starting: HashMap<String, String>,
}

impl Sieve {
    pub fn refuses(&mut self, message: &WorkItem, running: Option<&str>) -> Option<String> {
        let WorkItem::StartOrchestration { instance, orchestration, .. } = message else { return None };
        match self.starting.get(instance).map(String::as_str).or(running) {
            Some(running) => (running != orchestration).then(|| exists(instance, running).to_string()),
            None => {
                self.starting.insert(instance.clone(), orchestration.clone());
                None
            }
        }
    }
}

impl Store {
    /// The key that is recorded for an outbox.
    pub async fn relayed(&self, outbox: &str) -> Result<Option<i64>, StoreError> {
        let backend = self.open_backend()?;
        match &backend.database {
            Database::Embedded(store) => store.relayed(outbox),
            Database::Postgres { pool, schema } => Ok(Server { pool, schema }.relayed(outbox).await?),
        }
    }

    /// Takes rows over. After an error it is not known whether they were: ask [`Self::relayed`] before trying again.
    pub async fn relay(&self, relay: Relay) -> Result<Relayed, StoreError> {
        let backend = self.open_backend()?;
        match &backend.database {
            Database::Embedded(store) => store.relay(relay).await,
            Database::Postgres { pool, schema } => {
                let messages = relay.messages.clone();
                let relayed = Server { pool, schema }.relay(relay).await?;
                if relayed == Relayed::Done {
                    for message in &messages {
                        self.0.shared.enqueued(message, None);
                    }
                }
                Ok(relayed)
            }
        }
    }

    fn open_backend(&self) -> Result<&Backend, StoreError> {
        let backend = self.backend();
        backend.check_open(OPERATION)?;
        Ok(backend)
    }
}

const OPERATION: &str = "relay";
/// Whoever makes the table, and relays of one outbox, take turns: "dout".
const LOCK_SPACE: i32 = 0x646f_7574;

impl Server<'_> {
    async fn relayed(&self, outbox: &str) -> Result<Option<i64>, ProviderError> {
        let mut connection = self.pool.acquire().await.map_err(|error| failed(OPERATION, &error))?;
        if !self.has_outboxes(&mut connection).await? {
            return Ok(None);
        }
        self.seen(&mut connection, outbox).await
    }

    async fn relay(&self, relay: Relay) -> Result<Relayed, ProviderError> {
        let Self { pool, schema } = self;
        let failed = |error: sqlx::Error| failed(OPERATION, &error);
        let mut transaction = pool.begin().await.map_err(failed)?;
        lock(&mut transaction, &relay.outbox).await?;
        if !self.has_outboxes(&mut transaction).await? {
            self.make_outboxes(&mut transaction).await?;
        }
        let seen = self.seen(&mut transaction, &relay.outbox).await?;
        if seen != relay.seen {
            return Ok(Relayed::Behind(seen));
        }
        let mut ids: Vec<&str> = relay.messages.iter().filter_map(target).collect();
        ids.sort_unstable();
        ids.dedup();
        let known = self.known(&mut transaction, OPERATION, &ids).await?;
        let mut sieve = Sieve::default();
        let (mut refused, mut instances, mut items) = (Vec::new(), Vec::new(), Vec::new());
        for (place, message) in relay.messages.iter().enumerate() {
            let Some(instance) = target(message) else { continue };
            match sieve.refuses(message, known.get(instance).map(String::as_str)) {
                Some(reason) => refused.push((place, reason)),
                None => {
                    instances.push(instance);
                    items.push(written(message)?);
                }
            }
        }
        if !refused.is_empty() {
            return Ok(Relayed::Refused(refused));
        }
        sqlx::query(&format!(
            "INSERT INTO \"{schema}\".orchestrator_queue (instance_id, work_item, visible_at, created_at) \
             SELECT instance, item, now(), now() \
             FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS message (instance, item, place) ORDER BY place"
        ))
        .bind(&instances)
        .bind(&items)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        sqlx::query(&format!(
            "INSERT INTO \"{schema}\".python_outboxes (outbox, last) VALUES ($1, $2) \
             ON CONFLICT (outbox) DO UPDATE SET last = excluded.last"
        ))
        .bind(&relay.outbox)
        .bind(relay.last)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Relayed::Done)
    }

    async fn has_outboxes(&self, connection: &mut PgConnection) -> Result<bool, ProviderError> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = $2)")
            .bind(self.schema)
            .bind("python_outboxes")
            .fetch_one(connection)
            .await
            .map_err(|error| failed(OPERATION, &error))
    }

    /// Made by the first relay, since most stores have none.
    async fn make_outboxes(&self, transaction: &mut Transaction<'_, Postgres>) -> Result<(), ProviderError> {
        let Self { schema, .. } = self;
        // Relays of other outboxes may be at it.
        lock(transaction, "").await?;
        sqlx::query(&format!(
            "CREATE TABLE IF NOT EXISTS \"{schema}\".python_outboxes (outbox text PRIMARY KEY, last bigint NOT NULL)"
        ))
        .execute(&mut **transaction)
        .await
        .map(|_| ())
        .map_err(|error| failed(OPERATION, &error))
    }

    async fn seen(&self, connection: &mut PgConnection, outbox: &str) -> Result<Option<i64>, ProviderError> {
        let Self { schema, .. } = self;
        sqlx::query_scalar(&format!("SELECT last FROM \"{schema}\".python_outboxes WHERE outbox = $1"))
            .bind(outbox)
            .fetch_optional(connection)
            .await
            .map_err(|error| failed(OPERATION, &error))
    }
}

async fn lock(transaction: &mut Transaction<'_, Postgres>, outbox: &str) -> Result<(), ProviderError> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext($2))")
        .bind(LOCK_SPACE)
        .bind(outbox)
        .execute(&mut **transaction)
        .await
        .map(|_| ())
        .map_err(|error| failed(OPERATION, &error))
}

/// A message as the tables of PostgreSQL's provider hold it.
pub fn written(message: &WorkItem) -> Result<String, ProviderError> {
    serde_json::to_string(message)
        .map_err(|error| ProviderError::permanent("encode", format!("a message cannot be written as JSON: {error}")))
}
