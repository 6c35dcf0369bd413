//! A connection outside the pool. It is opened when it is needed, and opened again after it has failed.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::postgres::connect::session::Isolation;

/// The longest wait for a connection, since the network may hang without an error.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait for the answer to a statement.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

pub struct DedicatedConnection {
    pool: PgPool,
    isolation: Arc<Isolation>,
    connection: Option<PgConnection>,
}

impl DedicatedConnection {
    pub fn new(pool: PgPool, isolation: Arc<Isolation>) -> Self {
        Self { pool, isolation, connection: None }
    }

    /// Takes the connection for one piece of work. If the work ends early, the connection is dropped, since its state
    /// is unknown then.
    pub async fn take(&mut self) -> Result<PgConnection, sqlx::Error> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => connect(&self.pool.connect_options(), &self.isolation).await,
        }
    }

    /// Takes the connection back, unless the work on it failed or did not end in time.
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
                // After a refused statement, the connection can be used again once its transaction is rolled back.
                if matches!(error, sqlx::Error::Database(_)) {
                    let rollback = connection.execute(sqlx::raw_sql("ROLLBACK"));
                    if let Ok(Ok(_)) = timeout(CONNECT_TIMEOUT, rollback).await {
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
            let _ = timeout(CONNECT_TIMEOUT, connection.close()).await;
        }
    }
}

async fn connect(options: &Arc<PgConnectOptions>, isolation: &Isolation) -> Result<PgConnection, sqlx::Error> {
    let connecting = async {
        let mut connection = PgConnection::connect_with(options).await?;
        isolation.prepare(&mut connection).await?;
        Ok(connection)
    };
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(no_answer()),
    }
}

fn no_answer() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the server did not answer in time"))
}
