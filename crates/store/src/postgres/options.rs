//! How a PostgreSQL store is reached and used. What the server's own client library knows too (TLS, the program's name) stands
//! in the url.

use std::time::Duration;

/// Fewer cannot do the work: one that writes, one that looks for work, one that listens, one for reading, one for what is rare.
const FEWEST_CONNECTIONS: u32 = 5;
/// Where there are as many, a second one writes while the first one commits, and what is rare gets two, or three for a moment.
const AMPLE_CONNECTIONS: u32 = 9;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresOptions {
    /// All connections of this store together.
    pub max_connections: u32,
    /// Longest wait for a connection of the pool.
    pub acquire_timeout: Duration,
    /// Longest wait for a new connection to be let in.
    pub connect_timeout: Duration,
    /// Whether `PgBouncer` gives every transaction another connection; `None` finds out.
    pub pgbouncer: Option<bool>,
    pub migrate: Migrate,
    /// Where the url cannot say it: with tokens of Entra ID.
    pub application_name: Option<String>,
}

/// What becomes of tables and functions that are missing when a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// They are made; a role that may not make any can still open a schema that has all.
    Apply,
    /// They are named, and the store is not opened.
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

    /// Calls that `duroxide-pg` may have at a time for what is rare: management, and what the fast path leaves to it.
    pub fn rare_connections(&self) -> u32 {
        if self.budget() < AMPLE_CONNECTIONS { 1 } else { 2 }
    }

    /// Connections that write, each outside any pool.
    pub fn writing_connections(&self) -> u32 {
        if self.budget() < AMPLE_CONNECTIONS { 1 } else { 2 }
    }

    /// What is left for the pool of the fast path.
    pub fn pool_connections(&self) -> u32 {
        const LOOKS_AND_LISTENS: u32 = 2;
        // Where two are let in, a third connection may be opened while one is on its way back.
        let rare = if self.rare_connections() > 1 { 3 } else { 1 };
        self.budget() - rare - self.writing_connections() - LOOKS_AND_LISTENS
    }
}
