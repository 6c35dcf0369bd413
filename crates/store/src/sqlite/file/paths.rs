//! The path of a store's file and of the files beside it, and the errors for a file that cannot be used.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::error::StoreError;

/// The absolute and canonical path of a file. All parts of this process know the file by this path.
pub fn locate(path: &Path) -> Result<PathBuf, StoreError> {
    let configuration = |message: String| Err(StoreError::Configuration(message));
    let shown = path.display();
    if path.to_str().is_none() {
        return configuration(format!("'{shown}' is not valid unicode; choose another name"));
    }
    let path = std::path::absolute(path)
        .map_err(|error| StoreError::Configuration(format!("'{shown}' is not a path of a file: {error}")))?;
    if path.is_dir() {
        return configuration(format!("'{shown}' is a directory; give the path of a file in it"));
    }
    if path.exists() && !path.is_file() {
        return configuration(format!("'{shown}' is not a regular file; give the path of one, or of none"));
    }
    if path.exists() {
        let canonical = path
            .canonicalize()
            .map_err(|error| StoreError::Configuration(format!("'{shown}' cannot be read: {error}")))?;
        return check_length(canonical);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return configuration(format!("'{shown}' is not a path of a file"));
    };
    match parent.canonicalize() {
        Ok(parent) if parent.is_dir() => check_length(parent.join(name)),
        _ => {
            configuration(format!("the directory '{}' of '{shown}' does not exist; create it first", parent.display()))
        }
    }
}

/// Refuses a path that is too long for SQLite, whose own error does not say so.
fn check_length(path: PathBuf) -> Result<PathBuf, StoreError> {
    const LONGEST: usize = 512;
    // The longest name of the files beside it.
    let length = beside(&path, "-journal").as_os_str().len();
    if length <= LONGEST {
        return Ok(path);
    }
    Err(StoreError::Configuration(format!(
        "the path '{}' is too long: with the files beside it, it has {length} bytes, and SQLite takes {LONGEST}; choose a \
         shorter one",
        path.display()
    )))
}

/// `path` with `ending` appended to its name.
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

/// The path of the write-ahead log of a file.
pub fn log_of(file: &Path) -> PathBuf {
    beside(file, "-wal")
}

/// Syncs the directory of a new file: without that, a power failure may remove the file.
pub fn sync_directory(path: &Path) -> std::io::Result<()> {
    if cfg!(unix)
        && let Some(directory) = path.parent()
    {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Distinguishes a file from another file that had or has the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(u64, u64);

impl Identity {
    #[cfg(unix)]
    pub fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self(metadata.dev(), metadata.ino())
    }

    #[cfg(not(unix))]
    pub fn of(_: &Metadata) -> Self {
        // These systems neither delete nor replace an open file.
        Self(0, 0)
    }
}

/// The identity of the file at a path; `None` without a file.
pub fn identity(file: &Path) -> Option<Identity> {
    std::fs::metadata(file).ok().as_ref().map(Identity::of)
}

/// The error for a file that SQLite cannot open, chosen by SQLite's error code.
pub fn file_error(path: &Path, error: &rusqlite::Error) -> StoreError {
    let shown = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::Configuration(format!(
            "'{shown}' is not a duroxide database (it is no SQLite file at all); give the path of a new file"
        )),
        Some(ErrorCode::DatabaseCorrupt) => {
            StoreError::Configuration(format!("'{shown}' is damaged ({error}); restore it from a backup"))
        }
        Some(ErrorCode::ReadOnly) => StoreError::Configuration(format!(
            "'{shown}' cannot be written; make the file and its directory writable for this process"
        )),
        Some(ErrorCode::PermissionDenied | ErrorCode::CannotOpen | ErrorCode::AuthorizationForStatementDenied) => {
            StoreError::Configuration(format!(
                "'{shown}' cannot be opened ({error}); check the permissions of the file and of its directory"
            ))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            StoreError::Unavailable(format!("'{shown}' is locked by another process; stop it and try again"))
        }
        _ => StoreError::Unavailable(format!("'{shown}' could not be opened: {error}")),
    }
}
