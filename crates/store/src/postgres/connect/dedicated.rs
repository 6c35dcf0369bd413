//! A connection outside the pool. It is opened when it is needed, and opened again after it has failed.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};
use tokio::time::timeout;

use crate::postgres::connect::moves::Moves;
use crate::postgres::connect::session::Isolation;
use crate::postgres::errors::is_temporary;

/// The longest wait for a connection, since the network may hang without an error.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait for the answer to a statement.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The server did not answer in time, or the store has moved to another one.
pub struct NoAnswer;

pub struct DedicatedConnection {
    pool: PgPool,
    isolation: Arc<Isolation>,
    moves: Moves,
    connection: Option<PgConnection>,
    /// How often the store had moved when the connection was opened.
    moves_before: u64,
}

impl DedicatedConnection {
    pub fn new(pool: PgPool, isolation: Arc<Isolation>, moves: Moves) -> Self {
        Self { pool, isolation, moves, connection: None, moves_before: 0 }
    }

    /// Takes the connection for one piece of work. If the work ends early, the connection is dropped, since its state
    /// is unknown then. A connection to a server that the store has left is dropped, too.
    pub async fn take(&mut self) -> Result<PgConnection, sqlx::Error> {
        let moves = self.moves.count();
        if let Some(connection) = self.connection.take().filter(|_| self.moves_before == moves) {
            return Ok(connection);
        }
        self.moves_before = moves;
        let options = self.pool.connect_options();
        let connecting = connect(&options, &self.isolation);
        let connected = self.moves.unless_moved(connecting).await.unwrap_or_else(|| Err(no_answer()));
        if connected.as_ref().is_err_and(is_temporary) {
            self.moves.doubt();
        }
        connected
    }

    /// Waits for the work on the connection: for [`ANSWER_TIMEOUT`] at most, and until the store moves to another server.
    pub async fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<Result<T, sqlx::Error>, NoAnswer> {
        match self.moves.unless_moved(timeout(ANSWER_TIMEOUT, work)).await {
            Some(Ok(outcome)) => Ok(outcome),
            Some(Err(_)) | None => Err(NoAnswer),
        }
    }

    /// Takes the connection back, unless the work on it failed or did not end in time.
    pub async fn put_back<T>(
        &mut self,
        mut connection: PgConnection,
        outcome: Result<Result<T, sqlx::Error>, NoAnswer>,
    ) -> Result<T, sqlx::Error> {
        match outcome {
            Ok(Ok(value)) => {
                self.connection = Some(connection);
                Ok(value)
            }
            Ok(Err(error)) => {
                if is_temporary(&error) {
                    self.moves.doubt();
                }
                // After a refused statement, the connection can be used again once its transaction is rolled back.
                if matches!(error, sqlx::Error::Database(_)) {
                    let rollback = connection.execute(sqlx::raw_sql("ROLLBACK"));
                    if let Ok(Ok(_)) = timeout(CONNECT_TIMEOUT, rollback).await {
                        self.connection = Some(connection);
                    }
                }
                Err(error)
            }
            Err(NoAnswer) => {
                self.moves.doubt();
                Err(no_answer())
            }
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
