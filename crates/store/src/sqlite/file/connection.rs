//! The connection that writes.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::error::StoreError;
use crate::sqlite::file::paths::{log_of, refused};
use crate::sqlite::file::schema;
use crate::types::Durability;

/// A log of this length takes a lone commit without growing: the disk then writes data alone, and no new length.
const LOG_BYTES: u64 = 4 * 1024 * 1024;
const STATEMENTS: usize = 64;
const CACHE_KIB: i64 = 8 * 1024;

/// Opens a file for its owner, as the only connection that will ever write to it, and makes or upgrades its tables.
pub fn open(path: &Path, durability: Durability) -> Result<Connection, StoreError> {
    let refused = |error| refused(path, &error);
    // SQLite reads a length of zeros as no log at all.
    grow(&log_of(path)).map_err(|error| {
        StoreError::Unavailable(format!("the log of '{}' could not be written: {error}", path.display()))
    })?;
    let mut connection = Connection::open(path).map_err(refused)?;
    schema::prepare(&mut connection, path)?;
    set_up(&connection, durability).map_err(refused)?;
    Ok(connection)
}

pub fn in_memory() -> Result<Connection, StoreError> {
    let made = Connection::open_in_memory().and_then(|connection| {
        schema::create(&connection)?;
        set_up(&connection, Durability::Full)?;
        Ok(connection)
    });
    made.map_err(|error| StoreError::Unavailable(format!("a store in memory could not be made: {error}")))
}

fn set_up(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // macOS calls it done when the disk has only been told.
    connection.pragma_update(None, "fullfsync", durability == Durability::Full)?;
    // The writer says when, and nobody else.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A first read makes the log.
    connection.query_row("SELECT count(*) FROM totals", [], |_| Ok(()))
}

fn grow(log: &Path) -> std::io::Result<()> {
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
