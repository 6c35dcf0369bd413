//! Copies a file before the upgrade changes it.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::error::StoreError;
use crate::sqlite::file::companion::{self, Access};
use crate::sqlite::file::paths::{beside, sync_directory};

/// Copies the file to an unused name, and returns when the copy is on the disk.
pub fn create(path: &Path) -> Result<PathBuf, StoreError> {
    let mut copy = beside(path, ".before-upgrade");
    for number in 2.. {
        if std::fs::symlink_metadata(&copy).is_err() {
            break;
        }
        copy = beside(path, &format!(".before-upgrade-{number}"));
    }
    // An unfinished copy has another name, so that it is never taken for a whole one.
    let unfinished = beside(path, ".before-upgrade.unfinished");
    copy_into(path, &unfinished)
        .and_then(|()| std::fs::rename(&unfinished, &copy).map_err(|error| error.to_string()))
        .and_then(|()| sync_directory(&copy).map_err(|error| error.to_string()))
        .map_err(|error| {
            let _ = std::fs::remove_file(&unfinished);
            StoreError::Unavailable(format!(
                "'{}' has to be upgraded, and no copy of it could be kept in '{}': {error}",
                path.display(),
                copy.display()
            ))
        })?;
    Ok(copy)
}

/// SQLite makes the copy on a second connection, which reads the state before the open transaction. Reading the file
/// without SQLite would release the locks that this process holds on it.
fn copy_into(path: &Path, copy: &Path) -> Result<(), String> {
    // An earlier upgrade may have left it. What is removed is the name, also if it is that of a link.
    if std::fs::symlink_metadata(copy).is_ok() {
        std::fs::remove_file(copy).map_err(|error| error.to_string())?;
    }
    // A user who cannot read the store cannot read its copy.
    companion::create_new(path, copy, Access::AsStore).map_err(|error| error.to_string())?;
    let name = copy.to_str().ok_or("the name is not valid unicode")?;
    let reader =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|error| error.to_string())?;
    reader.execute("VACUUM INTO ?", [name]).map_err(|error| error.to_string())?;
    File::open(copy).and_then(|file| file.sync_all()).map_err(|error| error.to_string())
}
