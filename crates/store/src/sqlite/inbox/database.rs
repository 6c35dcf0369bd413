//! The database of requests. Several processes write to it, so it has a rollback journal, and each commit waits for the
//! disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, TransactionBehavior};
use uuid::Uuid;

use crate::error::StoreError;
use crate::sqlite::file::companion;
use crate::sqlite::file::paths::{Identity, beside, identity, sync_directory};
use crate::sqlite::inbox::request::{Body, InboxAnswer, Request, decode_answer, waiting_start};
use crate::sqlite::inbox::transaction::InboxTransaction;
use crate::start::WaitingStart;

/// Marks a file as an inbox: "duri" in ASCII.
const APPLICATION_ID: i32 = 0x6475_7269;
const VERSION: i32 = 1;

/// `starts` contains the instances that each request will start, so that a client can decide about a start without
/// decoding all requests. Of two requests for one instance, it contains the first.
const TABLES: &str = "
CREATE TABLE meta (name TEXT NOT NULL);
CREATE TABLE requests (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    waits INTEGER NOT NULL
);
CREATE TABLE starts (instance TEXT PRIMARY KEY, request INTEGER NOT NULL, orchestration TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX starts_by_request ON starts(request);
CREATE TABLE replies (request INTEGER PRIMARY KEY, payload TEXT NOT NULL, created_ms INTEGER NOT NULL);
";

/// How long to wait for a lock. Eight processes that write without pauses take turns of a few milliseconds each.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// How many requests, and how many bytes of them, the owner takes at once.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 4 << 20;

pub struct Inbox {
    /// The file of the store to which the inbox belongs.
    store: PathBuf,
    file: PathBuf,
    identity: Option<Identity>,
    name: Arc<str>,
    connection: Connection,
}

/// A request, or the reason why it cannot be decoded.
pub type DecodedRequest = Result<Request, StoreError>;

/// The state of a request in the inbox.
#[derive(Debug)]
pub enum RequestState {
    Waiting,
    Answered(InboxAnswer),
    /// Neither the request nor an answer is in the inbox: the answer was deleted long ago.
    Unknown,
}

/// Waits for a lock in short sleeps, since each lock lasts for one commit. SQLite's built-in handler sleeps up to 100
/// ms.
fn wait_for_lock(attempts: i32) -> bool {
    std::thread::sleep(Duration::from_micros(if attempts < 100 { 200 } else { 1000 }));
    attempts < 30_000
}

impl Inbox {
    /// Opens the inbox of the store at `store`. Creates the inbox if it does not exist.
    pub fn open(store: &Path) -> Result<Self, StoreError> {
        let file = beside(store, "-inbox");
        let failed = |error| inbox_error(&file, &error);
        companion::prepare(store, &file)?;
        let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut connection = Connection::open_with_flags(&file, flags).map_err(failed)?;
        connection.busy_handler(Some(wait_for_lock)).map_err(failed)?;
        connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
        connection.pragma_update(None, "secure_delete", true).map_err(failed)?;
        let _: String = retry_while_locked(|| {
            connection.pragma_update_and_check(None, "journal_mode", "truncate", |row| row.get(0))
        })
        .map_err(failed)?;
        let name = retry_while_locked(|| prepare(&mut connection)).map_err(failed)?;
        let name = name.ok_or_else(|| {
            StoreError::Configuration(format!(
                "'{}' was made by another version of duroxide or by another application; use one version in all \
                 processes, or move that file away if it is not an inbox",
                file.display()
            ))
        })?;
        sync_directory(&file).map_err(|error| {
            StoreError::Unavailable(format!("the directory of '{}' could not be written: {error}", file.display()))
        })?;
        let identity = identity(&file);
        Ok(Self { store: store.to_owned(), file, identity, name: name.into(), connection })
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether other processes find the same file that is open here.
    pub fn is_in_place(&self) -> bool {
        self.identity.is_some() && identity(&self.file) == self.identity
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Runs `write` in a transaction that excludes other writers, and returns when the transaction is on the disk.
    pub fn write<T>(
        &mut self,
        mut write: impl FnMut(&InboxTransaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        loop {
            let error = match self.connection.transaction_with_behavior(TransactionBehavior::Immediate) {
                Ok(transaction) if self.identity.is_some() && identity(&self.file) == self.identity => {
                    let transaction = InboxTransaction::new(transaction);
                    let value = write(&transaction)?;
                    match transaction.commit() {
                        Ok(()) => return Ok(value),
                        Err(error) => Some(error),
                    }
                }
                Ok(_) => None,
                Err(error) => Some(error),
            };
            match error {
                // The file was deleted, so no owner would read a request in it.
                None => *self = Self::open(&self.store.clone())?,
                Some(error) if !is_busy(&error) => return Err(inbox_error(&self.file, &error)),
                Some(_) => {}
            }
            if began.elapsed() > LOCK_TIMEOUT {
                return Err(StoreError::Unavailable(format!(
                    "'{}' could not be written to within {} s: other processes hold its lock",
                    self.file.display(),
                    LOCK_TIMEOUT.as_secs()
                )));
            }
        }
    }

    fn read<T>(&self, read: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        retry_while_locked(|| read(&self.connection)).map_err(|error| inbox_error(&self.file, &error))
    }

    /// The requests after `position`, in order and with their positions; at most as many as one batch should have.
    pub fn after(&self, position: i64) -> Result<Vec<(i64, DecodedRequest)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT position, payload FROM requests WHERE position > ? ORDER BY position LIMIT ?",
            )?;
            let mut rows = statement.query((position, BATCH as i64))?;
            let (mut requests, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let position = row.get(0)?;
                let payload = row.get_ref(1)?;
                bytes += payload.as_bytes_or_null().ok().flatten().map_or(0, <[u8]>::len);
                let body = payload
                    .as_str()
                    .map_err(|error| error.to_string())
                    .and_then(|text| Body::decode(text).map_err(|error| error.to_string()));
                let request = match body {
                    Ok(body) => Ok(Request { inbox: Arc::clone(&self.name), position, body }),
                    // One such row must not keep the requests behind it waiting.
                    Err(error) => Err(not_understood(&error)),
                };
                requests.push((position, request));
                if bytes > BATCH_BYTES {
                    break;
                }
            }
            Ok(requests)
        })
    }

    /// The start of `instance` that a request after `completed` asks for.
    pub fn requested_start(&self, instance: &str, completed: i64) -> Result<Option<WaitingStart>, StoreError> {
        let payload: Option<String> = self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT r.payload FROM starts s JOIN requests r ON r.position = s.request \
                     WHERE s.instance = ?1 AND s.request > ?2",
                )?
                .query_row((instance, completed), |row| row.get(0))
                .optional()
        })?;
        Ok(payload.and_then(|payload| waiting_start(&payload, instance)))
    }

    /// The instances that the requests after `completed` will start.
    pub fn requested_starts(&self, completed: i64) -> Result<Vec<String>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT instance FROM starts WHERE request > ?")?;
            statement.query_map([completed], |row| row.get(0))?.collect()
        })
    }

    pub fn request_state(&self, position: i64) -> Result<RequestState, StoreError> {
        self.read(|connection| request_state(connection, position))
    }
}

fn not_understood(error: &str) -> StoreError {
    StoreError::Unavailable(format!(
        "the process that works on the store does not understand the request ({error}); use one version of duroxide in \
         all processes"
    ))
}

pub fn request_state(connection: &Connection, position: i64) -> rusqlite::Result<RequestState> {
    let mut statement = connection.prepare_cached(
        "SELECT payload FROM replies WHERE request = ?1 UNION ALL SELECT NULL FROM requests WHERE position = ?1",
    )?;
    let found: Option<Option<String>> = statement.query_row([position], |row| row.get(0)).optional()?;
    Ok(match found {
        None => RequestState::Unknown,
        Some(None) => RequestState::Waiting,
        Some(Some(payload)) => RequestState::Answered(decode_answer(&payload)),
    })
}

/// Creates the tables if they do not exist. Returns the name of the inbox; `None` for a file that is not an inbox of
/// this version.
fn prepare(connection: &mut Connection) -> rusqlite::Result<Option<String>> {
    let versions = |connection: &Connection| -> rusqlite::Result<(i32, i32)> {
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
        Ok((pragma("application_id")?, pragma("user_version")?))
    };
    let name = |connection: &Connection| connection.query_row("SELECT name FROM meta", [], |row| row.get(0));
    if versions(connection)? == (APPLICATION_ID, VERSION) {
        return name(connection).map(Some);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have created the tables in between.
    let found = versions(&transaction)?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if found == (0, 0) && tables == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.execute("INSERT INTO meta VALUES (?)", [Uuid::new_v4().to_string()])?;
        transaction
            .execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"))?;
    } else if found != (APPLICATION_ID, VERSION) {
        return Ok(None);
    }
    let name = name(&transaction)?;
    transaction.commit()?;
    Ok(Some(name))
}

/// Repeats `attempt` while another process holds a lock. The busy handler of the connection has already waited for it.
fn retry_while_locked<T>(mut attempt: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let began = Instant::now();
    loop {
        match attempt() {
            Err(error) if is_busy(&error) && began.elapsed() < LOCK_TIMEOUT => {}
            outcome => return outcome,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

pub fn inbox_error(file: &Path, error: &rusqlite::Error) -> StoreError {
    let shown = file.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => StoreError::Configuration(
            format!("'{shown}' cannot be written ({error}); make it and its directory writable for this process"),
        ),
        _ => StoreError::Unavailable(format!("'{shown}' could not be used: {error}")),
    }
}
