//! A pool of connections that only read. It opens a connection when none is idle.

use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::Result;
use crate::sqlite::file::paths::{Identity, identity};
use crate::sqlite::read::query::{failed, naming};

/// Most queries read one row, and the operating system caches the file.
const CACHE_KIB: i64 = 256;
/// How many idle connections are kept. More parallel reads are rare, and a connection needs a few hundred kilobytes.
const MAX_IDLE: usize = 8;
const STATEMENTS: usize = 48;
/// How long a reader waits for a lock. It waits only while another process recovers the log after a crash.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections to one file. A read never waits for another: without an idle connection, it opens one.
pub struct Readers {
    path: PathBuf,
    idle: Mutex<IdleConnections>,
}

#[derive(Default)]
struct IdleConnections {
    connections: Vec<Connection>,
    /// The file that they read.
    identity: Option<Identity>,
    /// How often all connections were closed. A connection that was in use at that time is not kept.
    closings: u64,
}

impl Readers {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::default() }
    }

    /// Runs `read` on a connection that no other read uses at the same time.
    pub fn read<T>(&self, operation: &'static str, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let identity = identity(&self.path);
        let (connection, closings) = {
            let mut idle = self.idle.lock();
            if idle.identity != identity {
                // The file was replaced, and these connections still read the old one.
                idle.close();
                idle.identity = identity;
            }
            (idle.connections.pop(), idle.closings)
        };
        let connection = match connection {
            Some(connection) => connection,
            None => open(&self.path).map_err(failed(operation)).map_err(|error| naming(&self.path, error))?,
        };
        let outcome = read(&connection).map_err(|error| naming(&self.path, error));
        let mut idle = self.idle.lock();
        if idle.closings == closings && idle.connections.len() < MAX_IDLE {
            idle.connections.push(connection);
        }
        outcome
    }

    /// Closes the idle connections. Later reads open new ones.
    pub fn close(&self) {
        self.idle.lock().close();
    }
}

impl IdleConnections {
    fn close(&mut self) {
        self.closings += 1;
        self.connections.clear();
    }
}

/// Opens a connection that writes neither to the file nor to its log.
pub fn open(path: &Path) -> rusqlite::Result<Connection> {
    // SQLite needs no mutex: the type of the connection allows only one thread at a time.
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Only the owner copies the log into the file. SQLite would do it when the last reader closes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    Ok(connection)
}
