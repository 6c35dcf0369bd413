//! Poolers between us and the server, which give every transaction another connection (`PgBouncer`).

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _, PgPool, Row as _};
use tokio::time::timeout;

use crate::error::StoreError;
use crate::postgres::connect::{refused_by, unreachable};
use crate::postgres::options::PostgresOptions;

/// Whether a session is our own. A pooler that lends its connections by the transaction is found, and refused if it cannot
/// carry prepared statements along.
pub async fn session_features(
    first: &mut PgConnection,
    pool: &PgPool,
    options: &PostgresOptions,
    server: &str,
) -> Result<bool, StoreError> {
    let refused = refused_by(server);
    if options.pgbouncer == Some(false) {
        return Ok(true);
    }
    let mut second = pool.acquire().await.map_err(&refused)?;
    let (lent, prepared) = probe(first, &mut second).await.map_err(&refused)?;
    if let Some(fact) = prepared {
        return Err(unreachable(
            server,
            &format!(
                "PgBouncer, or a pooler like it, stands before it and does not carry prepared statements along ({fact}). Use \
                 PgBouncer 1.21 or newer with max_prepared_statements = 200, or pool_mode = session, or the url of the server \
                 itself"
            ),
        ));
    }
    Ok(!lent && options.pgbouncer.is_none())
}

/// Whether two sessions share connections to the server, and what becomes of a prepared statement if they do.
async fn probe(first: &mut PgConnection, second: &mut PgConnection) -> Result<(bool, Option<String>), sqlx::Error> {
    const STATEMENT: &str = "SELECT pg_backend_pid() + $1";
    // With one connection for all, the first waits until the second has done.
    const PATIENCE: Duration = Duration::from_secs(2);
    let home = match prepared(first, STATEMENT).await {
        Ok(process) => process,
        Err(error) => return lost(error).map(|fact| (true, Some(fact))),
    };
    let mut transaction = second.begin().await?;
    // Without a prepared statement: it shall take the connection that the first one used last.
    let taken: i32 = transaction.fetch_one(sqlx::raw_sql("SELECT pg_backend_pid()")).await?.try_get(0)?;
    let away = timeout(PATIENCE, prepared(first, STATEMENT)).await;
    transaction.rollback().await?;
    match away {
        Ok(Ok(away)) => Ok((away != home || taken == home, None)),
        Ok(Err(error)) => lost(error).map(|fact| (true, Some(fact))),
        Err(_) => Ok((true, None)),
    }
}

async fn prepared(connection: &mut PgConnection, statement: &'static str) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar(statement).bind(0).fetch_one(connection).await
}

/// What says that the server does not know a statement that this session prepared, or knows it from another one.
fn lost(error: sqlx::Error) -> Result<String, sqlx::Error> {
    match &error {
        sqlx::Error::Database(refusal) if matches!(refusal.code().as_deref(), Some("26000" | "42P05")) => {
            Ok(refusal.message().to_owned())
        }
        _ => Err(error),
    }
}
