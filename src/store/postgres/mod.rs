//! PostgreSQL: the store of many nodes, on the tables of `duroxide-pg`.

mod connect;
mod relay;

pub(super) use connect::connect;
pub use connect::{PostgresConnection, PostgresTarget};
