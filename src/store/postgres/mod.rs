//! PostgreSQL: the store of many nodes, on the tables of `duroxide-pg`.
//!
//! What the tasks of a node want committed gathers, and goes to the server as one call of a function (`functions.sql`), which
//! is one transaction. With it the node leases what can go on at once, so a chain of activities asks for nothing. What
//! is leased waits in lanes for who asks for it. `duroxide-pg` does the rest: migrations, administration, and what is rare.

mod administration;
mod batch;
mod bulk;
mod cancelled;
mod claims;
mod committed;
#[cfg(test)]
pub(super) mod conformance;
mod connect;
mod core;
mod entra;
mod fate;
mod grants;
mod histories;
mod lanes;
mod leases;
mod link;
mod news;
mod operation;
mod options;
mod orphans;
mod pooler;
mod provider;
mod rare;
mod relay;
mod reports;
mod rows;
mod schema;
mod server;
mod store;
mod taking;
mod trouble;
mod tune;
mod turns;
mod writer;

pub(super) use connect::connect;
pub use connect::{PostgresConnection, PostgresTarget};
pub use entra::Entra;
pub(super) use news::Told;
pub use options::{Migrate, PostgresOptions};
pub(super) use reports::LONGEST_NOTE;
pub(super) use store::PostgresStore;
