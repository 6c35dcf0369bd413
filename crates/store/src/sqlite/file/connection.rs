//! Opens the one connection that writes to a store.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::error::StoreError;
use crate::sqlite::file::companion::{self, Access};
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
    let log = companion::open(path, &log_of(path), Access::AsStore)?;
    extend_with_zeros(log).map_err(|error| {
        StoreError::Unavailable(format!("the log of '{}' could not be written: {error}", path.display()))
    })?;
    let mut connection = Connection::open(path).map_err(failed)?;
    schema::prepare(&mut connection, path)?;
    companion::match_rights(path);
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
    // Otherwise the pages and cells of deleted rows would keep their content until they are used again.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // The first read creates the log.
    connection.query_row("SELECT count(*) FROM totals", [], |_| Ok(()))
}

fn extend_with_zeros(mut log: File) -> std::io::Result<()> {
    let length = log.metadata()?.len();
    if length < LOG_BYTES {
        log.seek(SeekFrom::End(0))?;
        let zeros = vec![0; 64 * 1024];
        let mut missing = LOG_BYTES - length;
        while missing > 0 {
            let part = missing.min(zeros.len() as u64);
            log.write_all(&zeros[..part as usize])?;
            missing -= part;
        }
        log.sync_data()?;
    }
    Ok(())
}
