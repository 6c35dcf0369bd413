//! PostgreSQL: the store of many nodes, on the tables of `duroxide-pg`.

mod connect;

pub(super) use connect::connect;
pub use connect::{PostgresConnection, PostgresTarget};
