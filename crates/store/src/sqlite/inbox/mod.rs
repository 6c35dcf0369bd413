//! The requests of client processes to the owner. A client never writes to the store's file: its requests are rows of a
//! database beside the file. A request is on the disk before it is acknowledged, and the owner carries requests out in
//! order.
//!
//! The owner records the position of a request in the transaction that carries it out. So each request is done once,
//! even if a process dies in between. The inbox keeps requests while no owner runs, so a start can be acknowledged
//! without an owner.
//!
//! [`request`] has the requests and their JSON, [`database`] the file, [`transaction`] one change of it, and
//! [`consumer`] the part of the owner.

pub mod consumer;
pub mod database;
pub mod request;
#[cfg(test)]
pub mod tests;
pub mod transaction;

pub use crate::sqlite::inbox::consumer::InboxConsumer;
pub use crate::sqlite::inbox::database::{Inbox, RequestState};
pub use crate::sqlite::inbox::request::{Body, InboxAnswer, InboxReply, Request};
pub use crate::sqlite::inbox::transaction::InboxTransaction;
