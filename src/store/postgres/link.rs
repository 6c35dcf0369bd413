//! A connection of our own, made when it is needed and made again when it has failed.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection, PgPool};

/// Longer than this nobody waits for a connection, or for the answer to a batch: the network may hang without a word.
const CONNECT: Duration = Duration::from_secs(5);
pub(super) const ANSWER: Duration = Duration::from_secs(10);

pub(super) struct Link {
    pool: PgPool,
    connection: Option<PgConnection>,
}

impl Link {
    pub fn new(pool: PgPool) -> Self {
        Self { pool, connection: None }
    }

    /// Runs `work`, which hands the connection back, and gives the connection up if it fails or does not answer.
    pub async fn run<T, Working>(
        &mut self,
        limit: Duration,
        work: impl FnOnce(PgConnection) -> Working,
    ) -> Result<T, sqlx::Error>
    where
        Working: Future<Output = (PgConnection, Result<T, sqlx::Error>)>,
    {
        // Taken out while it works: whatever ends this future early ends the connection, whose state nobody knows then.
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.pool.connect_options()).await?,
        };
        let Ok((mut connection, outcome)) = tokio::time::timeout(limit, work(connection)).await else {
            return Err(no_answer(limit));
        };
        match &outcome {
            Ok(_) => self.connection = Some(connection),
            Err(sqlx::Error::Database(_)) => {
                // A refused statement leaves an open transaction at most.
                let rollback = async {
                    let outcome = sqlx::raw_sql("ROLLBACK").execute(&mut connection).await;
                    (connection, outcome)
                };
                if let Ok((connection, Ok(_))) = tokio::time::timeout(CONNECT, rollback).await {
                    self.connection = Some(connection);
                }
            }
            Err(_) => {}
        }
        outcome
    }

    pub async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = tokio::time::timeout(CONNECT, connection.close()).await;
        }
    }
}

async fn connect(options: &Arc<PgConnectOptions>) -> Result<PgConnection, sqlx::Error> {
    match tokio::time::timeout(CONNECT, PgConnection::connect_with(options)).await {
        Ok(connected) => connected,
        Err(_) => Err(no_answer(CONNECT)),
    }
}

fn no_answer(limit: Duration) -> sqlx::Error {
    let message = format!("the server did not answer within {} s: timed out", limit.as_secs());
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, message))
}
