//! The options of a PostgreSQL store. Options that the server's own client library has, too (TLS, the application
//! name), are part of the url.

use std::time::Duration;

/// The store needs at least these connections: one writer, one poller, one listener, one for reading, one for the base
/// provider.
const FEWEST_CONNECTIONS: u32 = 5;
/// With this many connections, a second writer works while the first one commits, and the base provider gets two
/// connections, or three for a moment.
const AMPLE_CONNECTIONS: u32 = 9;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresOptions {
    /// All connections of this store together.
    pub max_connections: u32,
    /// Longest wait for a connection of the pool.
    pub acquire_timeout: Duration,
    /// Longest wait until the server accepts a new connection.
    pub connect_timeout: Duration,
    /// Whether `PgBouncer` lends its connections by the transaction; `None` finds out.
    pub pgbouncer: Option<bool>,
    pub migrate: Migrate,
    /// For tokens of Entra ID only. Otherwise the application name is part of the url.
    pub application_name: Option<String>,
}

/// What opening a store does about missing tables and functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// Opening creates them. A role that may create nothing can still open a schema that has them all.
    Apply,
    /// Opening fails, and the error names them.
    Verify,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            max_connections: 10,
            acquire_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            pgbouncer: None,
            migrate: Migrate::Apply,
            application_name: None,
        }
    }
}

impl PostgresOptions {
    fn budget(&self) -> u32 {
        self.max_connections.max(FEWEST_CONNECTIONS)
    }

    /// How many calls the base provider may run at a time: administration, and the rare calls.
    pub fn base_provider_connections(&self) -> u32 {
        if self.budget() < AMPLE_CONNECTIONS { 1 } else { 2 }
    }

    /// The number of writers, each with a connection outside all pools.
    pub fn writing_connections(&self) -> u32 {
        if self.budget() < AMPLE_CONNECTIONS { 1 } else { 2 }
    }

    /// The number of connections that remain for the pool.
    pub fn pool_connections(&self) -> u32 {
        const POLLER_AND_LISTENER: u32 = 2;
        // With two permits, the base provider may open a third connection while a released one is being returned.
        let base_provider = if self.base_provider_connections() > 1 { 3 } else { 1 };
        self.budget() - base_provider - self.writing_connections() - POLLER_AND_LISTENER
    }
}
