//! The PostgreSQL store: any number of nodes share one schema, on the tables of `duroxide-pg`.
//!
//! - `connect`: opens the pool, the dedicated connections and the base provider, which is `duroxide-pg`'s own. The base
//!   provider does the migrations, the administration and the rare calls.
//! - `schema`: our functions on the server (`functions.sql`).
//! - `node`: the state of this node: the prefetch queues, the turns that it holds, the history cache.
//! - `write`: the writers. A writer commits the operations that have gathered as one call of a function, which is one
//!   transaction. The same transaction grants leases of work that can continue at once, so a chain of activities needs
//!   no query to find its next step.
//! - `fetch`: the poller, which looks for all other work, and the delivery of leased work to the prefetch queues.
//! - `queries`: queries that the base provider lacks.
//! - `notify`: the notifications between nodes. `listener` receives them.
//! - `failover`: the task that moves a store to another of its servers.

pub mod activity_token;
pub mod admin;
pub mod backend;
#[cfg(test)]
pub mod conformance;
pub mod connect;
pub mod errors;
pub mod failover;
pub mod fetch;
pub mod listener;
pub mod node;
pub mod notify;
pub mod options;
pub mod provider;
pub mod queries;
pub mod schema;
pub mod store;
pub mod third_party_texts;
pub mod write;

pub use crate::postgres::connect::default_schema::{schema_for_application, stores_statement};
pub use crate::postgres::connect::entra::Entra;
pub use crate::postgres::connect::hosts::Required;
pub use crate::postgres::connect::{PostgresConnection, PostgresTarget};
pub use crate::postgres::options::{Migrate, PostgresOptions};
pub use crate::postgres::store::PostgresStore;
