//! Opening SQLite, in a file or in memory, by the engine's bundled provider. A store of our own replaces it later.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use duroxide::providers::sqlite::SqliteProvider;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Mutex;

use super::StoreKind;
use super::backend::{Anchor, Backend, Database};
use super::error::StoreError;

/// Tables without which a database is not ours.
const OURS: [&str; 3] = ["instances", "history", "orchestrator_queue"];

pub(super) async fn in_memory() -> Result<Backend, StoreError> {
    // The driver gives every such url a name of its own, shared by the connections of one pool alone.
    let provider = SqliteProvider::new_in_memory()
        .await
        .map_err(|error| StoreError::Unavailable(format!("a store in memory could not be made: {error}")))?;
    finish(StoreKind::Memory, "store in memory".to_owned(), provider, None).await
}

/// Opens or creates `path`, which must be absolute and canonical but for a last part that may not exist yet.
pub(super) async fn open(path: &Path) -> Result<Backend, StoreError> {
    let shown = path.display();
    if path.exists() {
        inspect(path).await?;
    }
    let provider = SqliteProvider::new(&url(path)?, None).await.map_err(|error| refused(path, &error))?;
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(provider.get_pool())
        .await
        .map_err(|error| refused(path, &error))?;
    if mode != "wal" {
        provider.get_pool().close().await;
        return Err(StoreError::Configuration(format!(
            "'{shown}' is on a file system without write-ahead logs (journal mode is '{mode}'); put it on a local disk"
        )));
    }
    finish(StoreKind::Sqlite, format!("SQLite file '{shown}'"), provider, Some(path)).await
}

async fn finish(
    kind: StoreKind,
    description: String,
    provider: SqliteProvider,
    file: Option<&Path>,
) -> Result<Backend, StoreError> {
    let pool = provider.get_pool().clone();
    let refused = |error: String| StoreError::Unavailable(format!("{description} could not be opened: {error}"));
    let mut anchor = pool.acquire().await.map_err(|error| refused(error.to_string()))?;
    let log = match file {
        None => None,
        Some(path) => {
            // A read makes this connection open the log, and keeps it.
            sqlx::query("SELECT count(*) FROM instances")
                .execute(&mut *anchor)
                .await
                .map_err(|error| refused(error.to_string()))?;
            let mut name = path.as_os_str().to_owned();
            name.push("-wal");
            let log = File::options().append(true).open(&name).map_err(|error| refused(error.to_string()))?;
            sync_names(path).map_err(|error| refused(error.to_string()))?;
            Some(Arc::new(log))
        }
    };
    let database =
        Database::Sqlite { pool, anchor: Anchor::new(anchor), log: log.map(|log| parking_lot::Mutex::new(Some(log))) };
    Ok(Backend::new(kind, description, Arc::new(provider), database))
}

/// A file that was just made survives a power failure only when its directory is on the disk too.
fn sync_names(path: &Path) -> std::io::Result<()> {
    if cfg!(unix)
        && let Some(directory) = path.parent()
    {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// The absolute path by which a file is known in this process.
pub(super) fn locate(path: &Path) -> Result<PathBuf, StoreError> {
    let configuration = |message: String| Err(StoreError::Configuration(message));
    let shown = path.display();
    let path = std::path::absolute(path)
        .map_err(|error| StoreError::Configuration(format!("'{shown}' is not a path of a file: {error}")))?;
    if path.is_dir() {
        return configuration(format!("'{shown}' is a directory; give the path of a file in it"));
    }
    if path.exists() && !path.is_file() {
        return configuration(format!("'{shown}' is not a regular file; give the path of one, or of none"));
    }
    if path.exists() {
        return path
            .canonicalize()
            .map_err(|error| StoreError::Configuration(format!("'{shown}' cannot be read: {error}")));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return configuration(format!("'{shown}' is not a path of a file"));
    };
    match parent.canonicalize() {
        Ok(parent) if parent.is_dir() => Ok(parent.join(name)),
        _ => {
            configuration(format!("the directory '{}' of '{shown}' does not exist; create it first", parent.display()))
        }
    }
}

/// The url by which the bundled provider opens `path`; everything that has a meaning in a url is escaped.
fn url(path: &Path) -> Result<String, StoreError> {
    let Some(text) = path.to_str() else {
        return Err(StoreError::Configuration(format!(
            "'{}' is not valid unicode; choose another name",
            path.display()
        )));
    };
    let mut url = String::from("sqlite://");
    for byte in text.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => url.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => _ = write!(url, "%{byte:02X}"),
        }
    }
    url.push_str("?mode=rwc");
    Ok(url)
}

/// Refuses a file that is not ours before anything is written to it.
///
/// It is read through SQLite alone: closing a file that was opened otherwise would drop the locks that another store of this
/// process has on it.
async fn inspect(path: &Path) -> Result<(), StoreError> {
    let shown = path.display();
    let refused = |error| refused(path, &error);
    let options =
        SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(5)).disable_statement_logging();
    let mut connection: SqliteConnection = options.connect().await.map_err(refused)?;
    let outcome = async {
        let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
            .fetch_all(&mut connection)
            .await
            .map_err(refused)?;
        if !tables.is_empty() && !OURS.iter().all(|ours| tables.iter().any(|table| table == ours)) {
            return Err(StoreError::Configuration(format!(
                "'{shown}' is a SQLite database of another application; give the path of a new file"
            )));
        }
        // Leaves nothing behind, and fails where nothing can be written.
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.map_err(refused)?;
        sqlx::query("ROLLBACK").execute(&mut connection).await.map_err(refused)?;
        Ok(())
    }
    .await;
    let closed = connection.close().await.map_err(refused);
    outcome.and(closed)
}

/// Says what is wrong with the file, by SQLite's own codes.
fn refused(path: &Path, error: &sqlx::Error) -> StoreError {
    let shown = path.display();
    let code = match error {
        sqlx::Error::Database(error) => error.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff),
        _ => None,
    };
    match code {
        Some(26) => StoreError::Configuration(format!(
            "'{shown}' is not a duroxide database (it is no SQLite file at all); give the path of a new file"
        )),
        Some(11) => StoreError::Configuration(format!("'{shown}' is damaged ({error}); restore it from a backup")),
        Some(8) => StoreError::Configuration(format!(
            "'{shown}' cannot be written; make the file and its directory writable for this process"
        )),
        Some(3 | 14 | 23) => StoreError::Configuration(format!(
            "'{shown}' cannot be opened ({error}); check the permissions of the file and of its directory"
        )),
        Some(5 | 6) => {
            StoreError::Unavailable(format!("'{shown}' is locked by another process; stop it and try again"))
        }
        _ => StoreError::Unavailable(format!("'{shown}' could not be opened: {error}")),
    }
}

/// The files that this process has open. A second opening shares the first one's gate and locks: two sets of either on one
/// file would be in each other's way.
pub(super) type OpenFiles<T> = Mutex<HashMap<PathBuf, T>>;
