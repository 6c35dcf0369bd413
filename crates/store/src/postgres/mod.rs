//! PostgreSQL: the store of many nodes, on the tables of `duroxide-pg`.
//!
//! What the tasks of a node want committed gathers, and goes to the server as one call of a function (`functions.sql`), which
//! is one transaction. With it the node leases what can go on at once, so a chain of activities asks for nothing. What
//! is leased waits in lanes for who asks for it. `duroxide-pg` does the rest: migrations, administration, and what is rare.

pub mod admin;
pub mod backend;
#[cfg(test)]
pub mod conformance;
pub mod connect;
pub mod errors;
pub mod fetch;
pub mod node;
pub mod notify;
pub mod options;
pub mod provider;
pub mod queries;
pub mod schema;
pub mod store;
pub mod third_party_texts;
pub mod write;

pub use crate::postgres::connect::connect;
pub use crate::postgres::connect::entra::Entra;
pub use crate::postgres::connect::{PostgresConnection, PostgresTarget};
pub use crate::postgres::options::{Migrate, PostgresOptions};
