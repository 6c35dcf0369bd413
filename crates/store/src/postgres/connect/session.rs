//! The settings of a session that the statements of this store rely on.
//!
//! A server, a database or a role may have other defaults than PostgreSQL's own. `sqlx` sends the settings of texts and
//! times (`client_encoding`, `TimeZone`, `DateStyle`, `extra_float_digits`) when it connects, and the store exchanges
//! values in binary form. Two settings remain. The store reads again under a lock what another transaction has just
//! committed, which needs `read committed`. And `search_path` names no schema in which another role may create: if an
//! operator or a function of another role fits the types of an expression better than those of `pg_catalog`, the server
//! would run it with the rights of the node.
//!
//! A pooler that lends its connections by the transaction would give a setting of a session to other programs. Behind
//! such a pooler the store sets nothing for a session. Transactions of several statements begin with [`BEGIN`]. The
//! functions in the schema set their own `search_path`, also those of `duroxide-pg` (`schema::base_functions`). A single
//! statement may only use functions of the schema, functions of `pg_catalog` with its name or without polymorphic
//! parameters, and operators that `pg_catalog` has for exactly these types. The functions of the server refuse another
//! isolation with [`WRONG_ISOLATION`]: then the store begins its transactions explicitly.

use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::postgres::PgConnection;
use sqlx::{Executor as _, PgPool};

/// The beginning of a transaction with several statements.
pub const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL search_path = pg_catalog, pg_temp";

const SET: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; \
                   SET search_path = pg_catalog, pg_temp";
/// The code with which `functions.sql` refuses to run.
const WRONG_ISOLATION: &str = "DX001";

/// How the transactions of a store get the isolation that they need.
pub struct Isolation {
    /// Whether a session belongs to this store alone.
    session_features: bool,
    /// Whether every call of a function needs a transaction that was begun explicitly.
    is_explicit: AtomicBool,
}

impl Isolation {
    pub fn new(session_features: bool) -> Self {
        Self { session_features, is_explicit: AtomicBool::new(false) }
    }

    /// Prepares a new session.
    pub async fn prepare(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        prepare(connection, self.session_features).await
    }

    pub fn is_explicit(&self) -> bool {
        self.is_explicit.load(Ordering::Acquire)
    }

    /// Whether a function refused the isolation of its transaction, so that the call is to be repeated in an explicit one.
    /// All later calls begin explicitly.
    pub fn is_refused(&self, error: &sqlx::Error) -> bool {
        let is_refused = !self.is_explicit()
            && matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some(WRONG_ISOLATION));
        if is_refused {
            self.is_explicit.store(true, Ordering::Release);
        }
        is_refused
    }
}

/// Prepares a new session, unless a pooler may lend it to another program.
pub async fn prepare(connection: &mut PgConnection, session_features: bool) -> Result<(), sqlx::Error> {
    if session_features {
        connection.execute(sqlx::raw_sql(SET)).await?;
    }
    Ok(())
}

/// Begins a transaction of several statements.
pub async fn begin(pool: &PgPool) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, sqlx::Error> {
    pool.begin_with(BEGIN).await
}
