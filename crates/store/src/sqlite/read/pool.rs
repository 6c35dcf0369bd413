//! Connections that only read, opened when they are needed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::Result;
use crate::sqlite::file::paths::{Identity, identity};
use crate::sqlite::read::{failed, naming};

/// What is read is mostly one row, and the operating system has it.
const CACHE_KIB: i64 = 256;
/// More readers than this at once is rare; a connection costs a few hundred kilobytes while it is kept.
const KEPT: usize = 8;
const STATEMENTS: usize = 48;
/// A reader waits for nobody but a recovery of the log after a crash.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections to one file. Nobody waits for another reader: where none is free, one is opened.
pub struct Readers {
    path: PathBuf,
    free: Mutex<Free>,
}

#[derive(Default)]
struct Free {
    connections: Vec<Connection>,
    /// The file that they read.
    identity: Option<Identity>,
    /// How often all connections were closed: one that was out at that time is not kept.
    closings: u64,
}

impl Readers {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), free: Mutex::default() }
    }

    /// Runs `read` on a connection that nobody else uses meanwhile.
    pub fn read<T>(&self, operation: &'static str, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let identity = identity(&self.path);
        let (free, closings) = {
            let mut free = self.free.lock();
            if free.identity != identity {
                // Another file has taken its place: what these read is nobody's any more.
                free.close();
                free.identity = identity;
            }
            (free.connections.pop(), free.closings)
        };
        let connection = match free {
            Some(connection) => connection,
            None => open(&self.path).map_err(failed(operation)).map_err(|error| naming(&self.path, error))?,
        };
        let outcome = read(&connection).map_err(|error| naming(&self.path, error));
        let mut free = self.free.lock();
        if free.closings == closings && free.connections.len() < KEPT {
            free.connections.push(connection);
        }
        outcome
    }

    /// Closes the connections that are kept. Later reads open others.
    pub fn close(&self) {
        self.free.lock().close();
    }
}

impl Free {
    fn close(&mut self) {
        self.closings += 1;
        self.connections.clear();
    }
}

/// A connection that writes neither to the file nor to its log.
pub fn open(path: &Path) -> rusqlite::Result<Connection> {
    // No mutex: a connection is used by one thread at a time, which its type demands.
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // The log is the owner's alone, also when the last reader closes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    Ok(connection)
}
