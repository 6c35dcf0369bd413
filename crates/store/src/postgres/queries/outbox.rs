//! Takes over the rows that a relay reads from the outbox of an application.

use sqlx::{PgConnection, Postgres, Transaction};

use crate::error::Result;
use crate::outbox::{Relay, Relayed, StartFilter};
use crate::postgres::connect::session::begin;
use crate::postgres::errors::failed;
use crate::postgres::queries::Server;
use crate::work_item::encode;
use crate::work_item::target;

const OPERATION: &str = "relay";

impl Server<'_> {
    /// The key that is recorded for an outbox.
    pub async fn relayed(&self, outbox: &str) -> Result<Option<i64>> {
        let mut connection = self.pool.acquire().await.map_err(|error| failed(OPERATION, &error))?;
        self.recorded_key(&mut connection, outbox).await
    }

    /// Takes rows of an outbox over.
    pub async fn relay(&self, relay: Relay) -> Result<Relayed> {
        let Self { pool, schema } = self;
        let failed = |error: sqlx::Error| failed(OPERATION, &error);
        let mut transaction = begin(pool).await.map_err(failed)?;
        self.lock_outbox(&mut transaction, &relay.outbox).await?;
        let recorded = self.recorded_key(&mut transaction, &relay.outbox).await?;
        if recorded != relay.seen {
            return Ok(Relayed::Behind(recorded));
        }
        let mut ids: Vec<&str> = relay.messages.iter().map(target).collect();
        ids.sort_unstable();
        ids.dedup();
        let existing = self.existing(&mut transaction, OPERATION, &ids).await?;
        let mut filter = StartFilter::default();
        let (mut refused, mut instances, mut items) = (Vec::new(), Vec::new(), Vec::new());
        for (place, message) in relay.messages.iter().enumerate() {
            let instance = target(message);
            let reason =
                filter.refuses(message, existing.get(instance).map(|existing| existing.orchestration.as_str()));
            refused.extend(reason.map(|reason| (place, reason)));
            instances.push(instance);
            items.push(encode(message)?);
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

    async fn recorded_key(&self, connection: &mut PgConnection, outbox: &str) -> Result<Option<i64>> {
        let Self { schema, .. } = self;
        sqlx::query_scalar(&format!("SELECT last FROM \"{schema}\".python_outboxes WHERE outbox = $1"))
            .bind(outbox)
            .fetch_optional(connection)
            .await
            .map_err(|error| failed(OPERATION, &error))
    }

    /// Lets one relay of an outbox work at a time, by a row of the table that starts lock, too.
    async fn lock_outbox(&self, transaction: &mut Transaction<'_, Postgres>, outbox: &str) -> Result<()> {
        let Self { schema, .. } = self;
        sqlx::query(&format!(
            "SELECT FROM \"{schema}\".python_start_locks WHERE place = -1 - (hashtext($1) & 63) FOR UPDATE"
        ))
        .bind(outbox)
        .execute(&mut **transaction)
        .await
        .map(|_| ())
        .map_err(|error| failed(OPERATION, &error))
    }
}
