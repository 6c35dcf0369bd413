//! TODO

pub mod connection;
pub mod guard;
pub mod lock;
pub mod network_fs;
pub mod outbox_watcher;
pub mod paths;
pub mod schema;
pub mod upgrade;
pub mod watcher;
