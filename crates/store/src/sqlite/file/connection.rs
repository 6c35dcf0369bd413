//! Opens the one connection that writes to a store.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::error::StoreError;
use crate::sqlite::file::paths::{file_error, log_of};
use crate::sqlite::file::schema;
use crate::types::Durability;

/// The write-ahead log has at least this length. A commit that fits in need not change the length, so the disk writes
/// only the data.
const LOG_BYTES: u64 = 4 * 1024 * 1024;
const STATEMENTS: usize = 64;
const CACHE_KIB: i64 = 8 * 1024;

/// Opens a file for its owner, and creates or upgrades its tables. No other connection may ever write to the file.
pub fn open(path: &Path, durability: Durability) -> Result<Connection, StoreError> {
    let failed = |error| file_error(path, &error);
    // SQLite treats a log of zeros as an empty log.
    extend_with_zeros(&log_of(path)).map_err(|error| {
        StoreError::Unavailable(format!("the log of '{}' could not be written: {error}", path.display()))
    })?;
    let mut connection = Connection::open(path).map_err(failed)?;
    schema::prepare(&mut connection, path)?;
    configure(&connection, durability).map_err(failed)?;
    Ok(connection)
}

pub fn in_memory() -> Result<Connection, StoreError> {
    let made = Connection::open_in_memory().and_then(|connection| {
        schema::create(&connection)?;
        configure(&connection, Durability::Full)?;
        Ok(connection)
    });
    made.map_err(|error| StoreError::Unavailable(format!("a store in memory could not be made: {error}")))
}

fn configure(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // On macOS an ordinary sync returns before the disk has written the data.
    connection.pragma_update(None, "fullfsync", durability == Durability::Full)?;
    // Only the writer thread decides when the log is copied into the file.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // The first read creates the log.
    connection.query_row("SELECT count(*) FROM totals", [], |_| Ok(()))
}

fn extend_with_zeros(log: &Path) -> std::io::Result<()> {
    let mut file: File = OpenOptions::new().create(true).append(false).write(true).truncate(false).open(log)?;
    let length = file.metadata()?.len();
    if length < LOG_BYTES {
        file.seek(SeekFrom::End(0))?;
        let zeros = vec![0; 64 * 1024];
        let mut missing = LOG_BYTES - length;
        while missing > 0 {
            let part = missing.min(zeros.len() as u64);
            file.write_all(&zeros[..part as usize])?;
            missing -= part;
        }
        file.sync_data()?;
    }
    Ok(())
}
