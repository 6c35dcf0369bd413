//! A connection of our own, made when it is needed and made again when it has failed.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// Longer than this nobody waits for a connection, or for the answer to a batch: the network may hang without a word.
const CONNECT: Duration = Duration::from_secs(5);
pub const ANSWER: Duration = Duration::from_secs(10);

pub struct DedicatedConnection {
    pool: PgPool,
    connection: Option<PgConnection>,
}

impl DedicatedConnection {
    pub fn new(pool: PgPool) -> Self {
        Self { pool, connection: None }
    }

    /// Takes the connection for one piece of work. Whatever ends the work early ends the connection, whose state nobody knows then.
    pub async fn take(&mut self) -> Result<PgConnection, sqlx::Error> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => connect(&self.pool.connect_options()).await,
        }
    }

    /// Takes the connection back, unless the work on it has failed or did not come to an end in time.
    pub async fn put_back<T>(
        &mut self,
        mut connection: PgConnection,
        outcome: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Result<T, sqlx::Error> {
        match outcome {
            Ok(Ok(value)) => {
                self.connection = Some(connection);
                Ok(value)
            }
            Ok(Err(error)) => {
                // A refused statement leaves an open transaction at most.
                if matches!(error, sqlx::Error::Database(_)) {
                    let rollback = connection.execute(sqlx::raw_sql("ROLLBACK"));
                    if let Ok(Ok(_)) = timeout(CONNECT, rollback).await {
                        self.connection = Some(connection);
                    }
                }
                Err(error)
            }
            Err(_) => Err(no_answer()),
        }
    }

    pub async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = timeout(CONNECT, connection.close()).await;
        }
    }
}

async fn connect(options: &Arc<PgConnectOptions>) -> Result<PgConnection, sqlx::Error> {
    match timeout(CONNECT, PgConnection::connect_with(options)).await {
        Ok(connected) => connected,
        Err(_) => Err(no_answer()),
    }
}

fn no_answer() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the server did not answer in time"))
}
