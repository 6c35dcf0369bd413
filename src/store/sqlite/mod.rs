//! The embedded store: one file, one process that works on it, any number of others that use it as clients.
//!
//! `owner` is the process that works on the file. `read` is what everybody reads, by connections of their own.

// Until the store is opened through these.
#![allow(dead_code, unused_imports)]

#[cfg(test)]
mod conformance;
mod connection;
mod network;
mod owner;
mod ownership;
mod place;
mod presence;
mod read;
mod schema;
mod store;
#[cfg(test)]
mod testing;
mod upgrade;

pub(super) use place::locate;
pub(super) use store::SqliteStore;
