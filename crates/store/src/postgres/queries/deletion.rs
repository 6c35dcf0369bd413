//! Keeps turns away from instances while the base provider deletes them.

use std::time::Duration;

use crate::clock::span_ms;
use crate::error::Result;
use crate::postgres::errors::failed;
use crate::postgres::queries::Server;
use crate::postgres::schema::function;

const OPERATION: &str = "delete_instances_atomic";
/// The longest time that a deletion takes. A deletion whose process dies leaves the instances locked for so long.
const LONGEST_DELETION: Duration = Duration::from_secs(10);

impl Server<'_> {
    /// Takes the locks of `instances` for a deletion, also from turns that run now. Such a turn cannot commit any more, and no
    /// new turn begins. The deletion removes the locks with the instances. `token` is unique to the deletion.
    pub async fn keep_turns_out(&self, instances: &[String], token: &str) -> Result<()> {
        let Self { pool, schema } = self;
        sqlx::query(&format!(
            "INSERT INTO \"{schema}\".instance_locks (instance_id, lock_token, locked_until, locked_at) \
             SELECT instance, $2 || '.' || instance, now_ms + $3, now_ms FROM unnest($1::text[]) AS instance, \
             (SELECT {now_ms}() AS now_ms) AS clock ORDER BY instance \
             ON CONFLICT (instance_id) DO UPDATE SET lock_token = excluded.lock_token, \
             locked_until = excluded.locked_until, locked_at = excluded.locked_at",
            now_ms = function(schema, "now_ms")
        ))
        .bind(instances)
        .bind(token)
        .bind(span_ms(LONGEST_DELETION))
        .execute(*pool)
        .await
        .map(|_| ())
        .map_err(|error| failed(OPERATION, &error))
    }

    /// Gives the locks back after a deletion that was refused.
    pub async fn let_turns_in(&self, instances: &[String], token: &str) -> Result<()> {
        let Self { pool, schema } = self;
        sqlx::query(&format!(
            "DELETE FROM \"{schema}\".instance_locks \
             WHERE instance_id = ANY ($1) AND lock_token = $2 || '.' || instance_id"
        ))
        .bind(instances)
        .bind(token)
        .execute(*pool)
        .await
        .map(|_| ())
        .map_err(|error| failed(OPERATION, &error))
    }
}
