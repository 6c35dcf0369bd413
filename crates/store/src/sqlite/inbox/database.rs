//! The database of requests: a rollback journal, since several processes write to it, and every commit on the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, TransactionBehavior};
use uuid::Uuid;

use crate::error::StoreError;
use crate::sqlite::file::paths::{Identity, beside, identity, make_alike, sync_names};
use crate::sqlite::inbox::request::{Answer, Body, Request, decode_answer};
use crate::sqlite::inbox::transaction::InboxTransaction;

/// "duri" in ASCII.
const APPLICATION_ID: i32 = 0x6475_7269;
const VERSION: i32 = 1;

/// `starts` says which instances a request will start, so that a start need not decode all others to know. Of two requests
/// for one instance it has the first.
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

/// For whom a lock is waited for: eight processes that write without a pause take turns of a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much the owner takes at once.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 4 << 20;

pub struct Inbox {
    /// The store's file, for errors.
    store: PathBuf,
    file: PathBuf,
    identity: Option<Identity>,
    name: Arc<str>,
    connection: Connection,
}

/// A request, or why it cannot be read.
pub type Understood = Result<Request, StoreError>;

/// What became of a request.
#[derive(Debug)]
pub enum Replied {
    Waiting,
    Answered(Answer),
    /// It is neither there nor answered: its answer was removed long ago.
    Forgotten,
}

/// Short sleeps, since a lock is held for one commit, and many: the built-in handler sleeps up to 100 ms at a time.
fn wait_for_lock(attempts: i32) -> bool {
    std::thread::sleep(Duration::from_micros(if attempts < 100 { 200 } else { 1000 }));
    attempts < 30_000
}

impl Inbox {
    /// Opens the inbox of the store at `store`, and makes it where there is none.
    pub fn open(store: &Path) -> Result<Self, StoreError> {
        let file = beside(store, "-inbox");
        let refused = |error| refused(&file, &error);
        make_alike(store, &file);
        let mut connection = Connection::open(&file).map_err(refused)?;
        connection.busy_handler(Some(wait_for_lock)).map_err(refused)?;
        connection.pragma_update(None, "synchronous", "full").map_err(refused)?;
        let _: String =
            patiently(|| connection.pragma_update_and_check(None, "journal_mode", "truncate", |row| row.get(0)))
                .map_err(refused)?;
        let name = patiently(|| prepare(&mut connection)).map_err(refused)?;
        let name = name.ok_or_else(|| {
            StoreError::Configuration(format!(
                "'{}' was made by another version of duroxide or by another application; use one version in all processes, \
                 or move that file away if it is not an inbox",
                file.display()
            ))
        })?;
        sync_names(&file).map_err(|error| {
            StoreError::Unavailable(format!("the directory of '{}' could not be written: {error}", file.display()))
        })?;
        let identity = identity(&file);
        Ok(Self { store: store.to_owned(), file, identity, name: name.into(), connection })
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether the file that is open is still the one that others find.
    pub fn is_in_place(&self) -> bool {
        self.identity.is_some() && identity(&self.file) == self.identity
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Runs `write` while nobody else writes, and returns when what it wrote is on the disk.
    pub fn write<T>(
        &mut self,
        mut write: impl FnMut(&InboxTransaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        loop {
            let error = match self.connection.transaction_with_behavior(TransactionBehavior::Immediate) {
                Ok(transaction) if self.identity.is_some() && identity(&self.file) == self.identity => {
                    let draft = InboxTransaction::new(transaction);
                    let value = write(&draft)?;
                    match draft.commit() {
                        Ok(()) => return Ok(value),
                        Err(error) => Some(error),
                    }
                }
                Ok(_) => None,
                Err(error) => Some(error),
            };
            match error {
                // Somebody deleted the file, and nobody will read what is written to it.
                None => *self = Self::open(&self.store.clone())?,
                Some(error) if !is_busy(&error) => return Err(refused(&self.file, &error)),
                Some(_) => {}
            }
            if began.elapsed() > PATIENCE {
                return Err(StoreError::Unavailable(format!(
                    "'{}' could not be written to within {} s: other processes hold it",
                    self.file.display(),
                    PATIENCE.as_secs()
                )));
            }
        }
    }

    fn read<T>(&self, read: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        patiently(|| read(&self.connection)).map_err(|error| refused(&self.file, &error))
    }

    /// The requests after `position`, as many as one transaction should do, in order and with their positions.
    pub fn after(&self, position: i64) -> Result<Vec<(i64, Understood)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT position, payload FROM requests WHERE position > ? ORDER BY position LIMIT ?",
            )?;
            let mut rows = statement.query((position, BATCH as i64))?;
            let (mut requests, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let position = row.get(0)?;
                let payload = row.get_ref(1)?.as_str()?;
                bytes += payload.len();
                let request = Body::decode(payload)
                    .map(|body| Request { inbox: Arc::clone(&self.name), position, body })
                    .map_err(|error| {
                        StoreError::Unavailable(format!(
                            "the process that works on the store does not understand the request ({error}); use one \
                             version of duroxide in all processes"
                        ))
                    });
                requests.push((position, request));
                if bytes > BATCH_BYTES {
                    break;
                }
            }
            Ok(requests)
        })
    }

    pub fn replied(&self, position: i64) -> Result<Replied, StoreError> {
        self.read(|connection| replied(connection, position))
    }
}

pub fn replied(connection: &Connection, position: i64) -> rusqlite::Result<Replied> {
    let mut statement = connection.prepare_cached(
        "SELECT payload FROM replies WHERE request = ?1 UNION ALL SELECT NULL FROM requests WHERE position = ?1",
    )?;
    let found: Option<Option<String>> = statement.query_row([position], |row| row.get(0)).optional()?;
    Ok(match found {
        None => Replied::Forgotten,
        Some(None) => Replied::Waiting,
        Some(Some(payload)) => Replied::Answered(decode_answer(&payload)),
    })
}

/// Makes the tables unless they are there; the name, or `None` for what is no inbox of this version.
fn prepare(connection: &mut Connection) -> rusqlite::Result<Option<String>> {
    let look = |connection: &Connection| -> rusqlite::Result<(i32, i32)> {
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
        Ok((pragma("application_id")?, pragma("user_version")?))
    };
    let name = |connection: &Connection| connection.query_row("SELECT name FROM meta", [], |row| row.get(0));
    if look(connection)? == (APPLICATION_ID, VERSION) {
        return name(connection).map(Some);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have made them meanwhile.
    let found = look(&transaction)?;
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

/// Again while others hold a lock; the connection itself has waited for it already.
fn patiently<T>(mut attempt: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let began = Instant::now();
    loop {
        match attempt() {
            Err(error) if is_busy(&error) && began.elapsed() < PATIENCE => {}
            outcome => return outcome,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

pub fn refused(file: &Path, error: &rusqlite::Error) -> StoreError {
    let shown = file.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => StoreError::Configuration(
            format!("'{shown}' cannot be written ({error}); make it and its directory writable for this process"),
        ),
        _ => StoreError::Unavailable(format!("'{shown}' could not be used: {error}")),
    }
}
