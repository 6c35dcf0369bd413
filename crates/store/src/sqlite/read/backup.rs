//! The backup of a store into a new file.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::Result;
use crate::failure::Failure;
use crate::sqlite::file::companion::{self, Access};
use crate::sqlite::file::paths::sync_directory;
use crate::sqlite::read::query::failed;

const OPERATION: &str = "backup";

/// Copies the committed state into a new file.
pub fn back_up(connection: &Connection, target: &Path) -> Result<()> {
    let shown = target.display();
    let Some(name) = target.to_str() else {
        return Err(refused(format!("'{shown}' is not valid unicode; choose another name")));
    };
    let source = connection.path().map_or_else(PathBuf::new, PathBuf::from);
    // A user who cannot read the store cannot read its copy. SQLite writes into an empty file.
    match companion::create_new(&source, target, Access::AsStore) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(refused(format!("'{shown}' exists already; give the path of a new file")));
        }
        Err(error) => return Err(refused(format!("'{shown}' could not be written: {error}"))),
    }
    let copied = copy_into(connection, target, name);
    if copied.is_err() {
        // A part of a copy must not be taken for a backup.
        std::fs::remove_file(target).ok();
    }
    copied
}

fn copy_into(connection: &Connection, target: &Path, name: &str) -> Result<()> {
    // A reader's connection refuses all writes. This connection must write the copy, and runs no other statement at
    // that time.
    let set_query_only = |on: bool| connection.pragma_update(None, "query_only", on);
    let was_on = connection.pragma_query_value(None, "query_only", |row| row.get(0)).map_err(failed(OPERATION))?;
    set_query_only(false).map_err(failed(OPERATION))?;
    let copied = connection.prepare("VACUUM INTO ?").and_then(|mut copy| copy.execute([name]));
    set_query_only(was_on).map_err(failed(OPERATION))?;
    copied.map_err(failed(OPERATION))?;
    let synced = File::open(target).and_then(|file| file.sync_all()).and_then(|()| sync_directory(target));
    synced.map_err(|error| refused(format!("'{}' could not be written: {error}", target.display())))
}

fn refused(reason: String) -> Failure {
    Failure::refused(OPERATION, reason)
}
