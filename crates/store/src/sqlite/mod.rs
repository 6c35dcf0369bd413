//! The embedded store: one file, one process that works on it, any number of others that use it as clients.
//!
//! `store` is what the rest of the process has of it, in one of two roles: `owner` works on the file, by the right that
//! `ownership` gives (`work` brings the two together); `client` reads the file and writes what it asks for into the `inbox`.
//! `read` is what both read, by connections of their own; `schema` and `upgrade` make the file what they expect.

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

pub use crate::sqlite::file::outbox_watcher::FileNews;
pub use crate::sqlite::file::paths::locate;
pub use crate::sqlite::store::SqliteStore;
