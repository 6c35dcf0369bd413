//! The embedded store: one file, one process that works on it, any number of others that use it as clients.
//!
//! `store` is what the rest of the process has of it, in one of two roles: `owner` works on the file, by the right that
//! `ownership` gives (`work` brings the two together); `client` reads the file and writes what it asks for into the `inbox`.
//! `read` is what both read, by connections of their own; `schema` and `upgrade` make the file what they expect.

mod client;
#[cfg(test)]
pub(super) mod conformance;
mod connection;
mod inbox;
mod network;
mod news;
mod owner;
mod ownership;
mod place;
mod presence;
mod provider;
mod read;
mod schema;
mod store;
#[cfg(test)]
mod testing;
mod tidings;
mod upgrade;
mod work;

pub(super) use client::Change;
pub use news::FileNews;
pub(super) use place::locate;
pub(super) use store::SqliteStore;
