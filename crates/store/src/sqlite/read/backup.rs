//! The backup of a store into a new file.

use std::fs::File;
use std::path::Path;

use rusqlite::Connection;

use crate::error::Result;
use crate::failure::Failure;
use crate::sqlite::file::paths::sync_directory;
use crate::sqlite::read::query::failed;

/// Copies the committed state into a new file.
pub fn back_up(connection: &Connection, target: &Path) -> Result<()> {
    const OPERATION: &str = "backup";
    let refused = |reason: String| Failure::refused(OPERATION, reason);
    let shown = target.display();
    let Some(name) = target.to_str() else {
        return Err(refused(format!("'{shown}' is not valid unicode; choose another name")));
    };
    if target.exists() {
        return Err(refused(format!("'{shown}' exists already; give the path of a new file")));
    }
    // A reader's connection refuses all writes. This connection must write the copy, and runs no other statement at
    // that time.
    let set_query_only = |on: bool| connection.pragma_update(None, "query_only", on);
    let was_on = connection.pragma_query_value(None, "query_only", |row| row.get(0)).map_err(failed(OPERATION))?;
    set_query_only(false).map_err(failed(OPERATION))?;
    let copied = connection.prepare("VACUUM INTO ?").and_then(|mut copy| copy.execute([name]));
    set_query_only(was_on).map_err(failed(OPERATION))?;
    let synced = copied.map_err(failed(OPERATION)).and_then(|_| {
        let file = File::open(target).and_then(|file| file.sync_all()).and_then(|()| sync_directory(target));
        file.map_err(|error| refused(format!("'{shown}' could not be written: {error}")))
    });
    if synced.is_err() {
        // A part of a copy must not be taken for a backup.
        std::fs::remove_file(target).ok();
    }
    synced
}
