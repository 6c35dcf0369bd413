//! The file of a store, and the checks and watches on it.
//!
//! - `paths` names the file and the files beside it. `network_fs` refuses file systems of other machines, and
//!   `single_path` a file with a second path.
//! - `companion` creates and checks the files beside it, where another user may have put a file of their own.
//! - `lock` gives one process the right to work on the file. `guard` finds out whether the file was deleted or
//!   replaced.
//! - `connection` opens the connection that writes. `schema` creates the tables, and `upgrade` converts older files.
//! - `watcher` notices writes to a file by other processes. `outbox_watcher` does so for the database of an
//!   application.

pub mod companion;
pub mod connection;
pub mod guard;
pub mod lock;
pub mod network_fs;
pub mod outbox_watcher;
pub mod paths;
pub mod schema;
pub mod single_path;
pub mod upgrade;
pub mod watcher;
