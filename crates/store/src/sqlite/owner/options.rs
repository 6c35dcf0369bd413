//! The options with which an owner is opened.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;

use crate::policy::StorePolicy;
use crate::session_limits::SessionLimits;
use crate::sqlite::file::lock::LockPlace;

/// The parameters of [`Owner::open`](crate::sqlite::owner::Owner::open).
pub struct OwnerOptions {
    pub description: String,
    /// The writer's connection to a file or to memory. Its tables exist.
    pub connection: Connection,
    /// `None` for a store in memory, which has one connection.
    pub file: Option<PathBuf>,
    /// The lock that makes this process the owner of the file.
    pub lock: Option<LockPlace>,
    pub policy: StorePolicy,
    /// The limits of the runtimes of this process.
    pub session_limits: Arc<SessionLimits>,
}
