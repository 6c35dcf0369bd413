//! TODO

pub mod deliver;
pub mod lease;
pub mod orphaned;
pub mod poller;
pub mod rows;
