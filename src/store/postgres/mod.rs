//! PostgreSQL: the store of many nodes, on the tables of `duroxide-pg`.

mod connect;
mod entra;
mod options;
mod pooler;
mod rare;
pub mod schema;

pub(super) use connect::connect;
pub use connect::{Connections, PostgresConnection, PostgresTarget, open};
pub use entra::Entra;
pub use options::{Migrate, PostgresOptions};
pub use rare::{Entered, Rare};
