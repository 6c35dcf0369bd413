//! The embedded store: one file, one process that works on it, any number of others that use it as clients.

// Until the store is opened through these.
#![allow(dead_code, unused_imports)]

mod client;
mod inbox;
mod network;
mod ownership;
mod place;
mod read;
mod schema;
#[cfg(test)]
mod testing;
mod tidings;
mod upgrade;
