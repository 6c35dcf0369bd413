//! The SQLite store: one process owns the file and works on it, and other processes use it as clients.
//!
//! - `store` is the open store of this process, in one of two roles. `provider` is the engine's view of it, and
//!   `backend` the view of the rest of this crate.
//! - `owner` works on the file. `owner_session` combines it with the lock and the inbox.
//! - `client` reads the file, and writes its requests into the `inbox`.
//! - `read` has the queries of both roles. `file` has the paths, the lock, the schema and the upgrade of the file.

pub mod backend;
pub mod client;
#[cfg(test)]
pub mod conformance;
pub mod file;
pub mod inbox;
pub mod owner;
pub mod owner_session;
pub mod provider;
pub mod read;
pub mod store;
#[cfg(test)]
pub mod testing;

pub use crate::sqlite::file::outbox_watcher::DatabaseWatcher;
pub use crate::sqlite::file::paths::locate;
pub use crate::sqlite::store::SqliteStore;

/// The version of the SQLite library that this process runs.
pub fn library_version() -> &'static str {
    rusqlite::version()
}
