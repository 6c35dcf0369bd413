//! What other processes ask of the one that works on a file. They never write to it: their requests are rows of a database
//! beside it, durable before they are acknowledged, in the order in which the owner carries them out.
//!
//! The store records up to where it has read each inbox in the transaction that does what a request asks, so that each is
//! done once, whoever dies in between. What nobody reads is kept: a start is acknowledged also while no owner runs.

pub mod consumer;
pub mod database;
pub mod request;
#[cfg(test)]
pub mod tests;
pub mod transaction;

pub use crate::sqlite::inbox::consumer::InboxConsumer;
pub use crate::sqlite::inbox::database::{Inbox, Replied};
pub use crate::sqlite::inbox::request::{Answer, Body, Reply, Request};
pub use crate::sqlite::inbox::transaction::InboxTransaction;
