//! PostgreSQL: the store of many nodes, on the tables of `duroxide-pg`.

#[allow(dead_code, reason = "for the fast path")]
mod connect;
mod entra;
mod options;
mod pooler;
#[allow(dead_code, reason = "for the fast path")]
mod rare;
pub mod schema;
mod tune;

pub(super) use connect::connect;
#[allow(unused_imports, reason = "for the fast path")]
pub use connect::{Connections, PostgresConnection, PostgresTarget, open};
pub use entra::Entra;
pub use options::{Migrate, PostgresOptions};
#[allow(unused_imports, reason = "for the fast path")]
pub use rare::{Entered, Rare};
pub(super) use tune::tune;
