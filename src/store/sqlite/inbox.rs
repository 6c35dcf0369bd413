//! What other processes ask of the one that works on a file. They never write to it: their requests are rows of a database
//! beside it, durable before they are acknowledged, in the order in which the owner carries them out.
//!
//! The store records up to where it has read each inbox in the transaction that does what a request asks, so that each is
//! done once, whoever dies in between. What nobody reads is kept: a start is acknowledged also while no owner runs.

mod database;
mod draft;
mod reader;
mod request;

pub(super) use database::{Inbox, Replied};
pub(super) use draft::Draft;
pub(in crate::store) use reader::InboxReader;
pub(in crate::store) use request::{Answer, Body, Reply, Request};

#[cfg(test)]
mod tests;
