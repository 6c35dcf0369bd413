//! Detects a pooler before the server that lends its connections by the transaction, such as `PgBouncer`.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Row as _};
use tokio::time::timeout;

use crate::error::StoreError;
use crate::postgres::connect::errors::{refused_by, unreachable};
use crate::postgres::options::PostgresOptions;

/// Whether a session belongs to this store alone. A pooler that lends its connections by the transaction is detected,
/// and refused if it does not support prepared statements.
pub async fn session_features(
    first: &mut PgConnection,
    connect: &PgConnectOptions,
    options: &PostgresOptions,
    server: &str,
) -> Result<bool, StoreError> {
    let refused = refused_by(server);
    if options.pgbouncer == Some(false) {
        return Ok(true);
    }
    let mut second = connect.connect().await.map_err(&refused)?;
    let probed = probe(first, &mut second).await;
    // The second connection is not needed any more, so a failure to close it does not matter.
    let _ = second.close().await;
    let (is_shared, lost_statement) = probed.map_err(&refused)?;
    if let Some(fact) = lost_statement {
        return Err(unreachable(
            server,
            &format!(
                "PgBouncer, or a similar pooler, is in front of it and does not support prepared statements ({fact}). \
                 Use PgBouncer 1.21 or newer with max_prepared_statements = 200, or pool_mode = session, or the url of \
                 the server itself"
            ),
        ));
    }
    Ok(!is_shared && options.pgbouncer.is_none())
}

/// Whether two sessions share connections to the server, and the server's error if a prepared statement gets lost
/// thereby.
async fn probe(first: &mut PgConnection, second: &mut PgConnection) -> Result<(bool, Option<String>), sqlx::Error> {
    const STATEMENT: &str = "SELECT pg_backend_pid() + $1";
    // If the pooler has one connection for all, the first session waits until the transaction of the second one has
    // ended.
    const LIMIT: Duration = Duration::from_secs(2);
    let before = match prepared(first, STATEMENT).await {
        Ok(process) => process,
        Err(error) => return statement_lost(error).map(|fact| (true, Some(fact))),
    };
    let mut transaction = second.begin().await?;
    // Not a prepared statement, so that the pooler can give it the connection that the first session used last.
    let second_process: i32 = transaction.fetch_one(sqlx::raw_sql("SELECT pg_backend_pid()")).await?.try_get(0)?;
    let after = timeout(LIMIT, prepared(first, STATEMENT)).await;
    transaction.rollback().await?;
    match after {
        Ok(Ok(after)) => Ok((after != before || second_process == before, None)),
        Ok(Err(error)) => statement_lost(error).map(|fact| (true, Some(fact))),
        Err(_) => Ok((true, None)),
    }
}

async fn prepared(connection: &mut PgConnection, statement: &'static str) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar(statement).bind(0).fetch_one(connection).await
}

/// The server's message, if it does not know a statement that this session prepared, or knows it from another session.
fn statement_lost(error: sqlx::Error) -> Result<String, sqlx::Error> {
    match &error {
        sqlx::Error::Database(refusal) if matches!(refusal.code().as_deref(), Some("26000" | "42P05")) => {
            Ok(refusal.message().to_owned())
        }
        _ => Err(error),
    }
}
