//! Creates our functions (`functions.sql`) in the schema of the store, or checks that they are there. `rights` finds the
//! rights that a role lacks, `application_tables` finds tables of others under our names, `base_functions` protects the
//! functions of `duroxide-pg`, `ownership` finds objects of other roles, and `tune` prepares the tables for many rows.

pub mod application_tables;
pub mod base_functions;
pub mod ownership;
pub mod rights;
pub mod tune;

use std::sync::LazyLock;
use std::time::Duration;

use sqlx::{Executor as _, PgPool};
use tokio::time::sleep;
use uuid::Uuid;

use crate::postgres::connect::session::begin;

const FUNCTIONS: &str = include_str!("functions.sql");

/// `CREATE TABLE` locks the tables that the new one refers to, for a moment. While it waits for such a lock, the
/// statements of working nodes wait behind it, so it gives up soon and tries again.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '1s'";
const LOCK_NOT_AVAILABLE: &str = "55P03";
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(200);

/// The name of the key of digests in the table of secrets.
const DIGEST_KEY: &str = "digests";

/// The suffix of the names of our functions, a hash of their text. A changed text gets new names, so an installed
/// function is never replaced under a node that uses it.
pub static VERSION: LazyLock<String> = LazyLock::new(|| {
    let hash = hash(FUNCTIONS.as_bytes());
    format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
});

/// The full name of one of our functions: `function("app", "commit")` is `"app".python_commit_1f2e3d4c`.
pub fn function(schema: &str, name: &str) -> String {
    format!("\"{schema}\".python_{name}_{}", *VERSION)
}

/// What a schema lacks in which `migrate="verify"` must create nothing; `None` if it lacks nothing. The check needs no
/// rights.
pub async fn verify(pool: &PgPool, schema: &str) -> Result<Option<&'static str>, sqlx::Error> {
    if !installed(pool, schema).await? {
        return Ok(Some("the functions of this version are missing"));
    }
    let is_unprotected = !base_functions::unprotected(pool, schema).await?.is_empty();
    Ok(is_unprotected.then_some("functions of duroxide-pg run with the search_path of their caller"))
}

/// The name that a renamed schema had before; `None` if it has its first name. The functions of `duroxide-pg` name the
/// schema that they were made for, so in a renamed schema they work on another one.
pub async fn renamed_from(pool: &PgPool, schema: &str) -> Result<Option<String>, sqlx::Error> {
    let named: Option<String> = sqlx::query_scalar(
        "SELECT max(substring(p.prosrc FROM '([a-z0-9_]+)\\.orchestrator_queue')) FROM pg_catalog.pg_proc p \
         JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
         WHERE n.nspname = $1 AND p.proname = 'enqueue_orchestrator_work'",
    )
    .bind(schema)
    .fetch_one(pool)
    .await?;
    Ok(named.filter(|named| named != schema))
}

/// Creates the functions of this version, unless they are there. Many nodes may do so at the same time.
pub async fn apply(pool: &PgPool, schema: &str) -> Result<(), sqlx::Error> {
    if verify(pool, schema).await?.is_none() {
        return Ok(());
    }
    for _ in 0..ATTEMPTS {
        match create(pool, schema).await {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) => {
                sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
    create(pool, schema).await
}

async fn create(pool: &PgPool, schema: &str) -> Result<(), sqlx::Error> {
    let mut transaction = begin(pool).await?;
    sqlx::query(LOCK_TIMEOUT).execute(&mut *transaction).await?;
    // One node creates at a time. Only a role with rights on the table can hold this lock. It ends with the transaction,
    // so it is safe behind a pooler that lends connections by the transaction, too.
    let lock = format!("LOCK TABLE \"{schema}\"._duroxide_migrations IN SHARE ROW EXCLUSIVE MODE");
    transaction.execute(sqlx::raw_sql(&lock)).await?;
    if !installed(&mut *transaction, schema).await? {
        transaction.execute(sqlx::raw_sql(&text(schema))).await?;
        let secret = format!("INSERT INTO \"{schema}\".python_secrets VALUES ($1, $2) ON CONFLICT DO NOTHING");
        let key = [Uuid::new_v4(), Uuid::new_v4()].map(|part| part.simple().to_string()).concat();
        sqlx::query(&secret).bind(DIGEST_KEY).bind(key).execute(&mut *transaction).await?;
    }
    for protect in base_functions::unprotected(&mut *transaction, schema).await? {
        transaction.execute(sqlx::raw_sql(&protect)).await?;
    }
    transaction.commit().await
}

/// The key with which the notifications of all nodes hide the ids of instances.
pub async fn digest_key(pool: &PgPool, schema: &str) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(&format!("SELECT value FROM \"{schema}\".python_secrets WHERE name = $1"))
        .bind(DIGEST_KEY)
        .fetch_one(pool)
        .await
}

/// The statements that create the functions of this version.
fn text(schema: &str) -> String {
    let marker = format!(
        "\nCREATE OR REPLACE FUNCTION {marker}() RETURNS void LANGUAGE sql \
         SET search_path = pg_catalog, pg_temp AS '';\n\
         COMMENT ON FUNCTION {marker}() IS 'all functions of duroxide for Python {package} are installed';\n",
        marker = function(schema, MARKER),
        package = env!("CARGO_PKG_VERSION"),
    );
    FUNCTIONS.replace("{schema}", schema).replace("{version}", &VERSION) + &marker
}

/// The function that is created last, in the same transaction as all others. If it is there, all others are.
const MARKER: &str = "installed";

async fn installed(connection: impl sqlx::PgExecutor<'_>, schema: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
         WHERE n.nspname = $1 AND p.proname = $2)",
    )
    .bind(schema)
    .bind(format!("python_{MARKER}_{}", *VERSION))
    .fetch_one(connection)
    .await
}

/// FNV-1a: the same number in every process and every build.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
