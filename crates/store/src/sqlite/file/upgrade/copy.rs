//! The copy of a file that is kept before the file is changed.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::error::StoreError;
use crate::sqlite::file::paths::{beside, sync_names};

/// Copies the file as it is, to a name that was free, and returns when the copy is on the disk.
pub fn keep(path: &Path) -> Result<PathBuf, StoreError> {
    let mut copy = beside(path, ".before-upgrade");
    for number in 2.. {
        if !copy.exists() {
            break;
        }
        copy = beside(path, &format!(".before-upgrade-{number}"));
    }
    // Half a copy never has the name of a whole one.
    let unfinished = beside(path, ".before-upgrade.unfinished");
    copy_into(path, &unfinished)
        .and_then(|()| std::fs::rename(&unfinished, &copy).map_err(|error| error.to_string()))
        .and_then(|()| sync_names(&copy).map_err(|error| error.to_string()))
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

/// By SQLite and by a connection of its own: it reads what the open transaction has not changed yet. Reading the file
/// otherwise would drop the locks that this process has on it.
fn copy_into(path: &Path, copy: &Path) -> Result<(), String> {
    let permissions = std::fs::metadata(path).map_err(|error| error.to_string())?.permissions();
    let file =
        OpenOptions::new().write(true).create(true).truncate(true).open(copy).map_err(|error| error.to_string())?;
    // Who may not read the store may not read its copy.
    file.set_permissions(permissions).map_err(|error| error.to_string())?;
    drop(file);
    let name = copy.to_str().ok_or("the name is not valid unicode")?;
    let reader =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|error| error.to_string())?;
    reader.execute("VACUUM INTO ?", [name]).map_err(|error| error.to_string())?;
    File::open(copy).and_then(|file| file.sync_all()).map_err(|error| error.to_string())
}
