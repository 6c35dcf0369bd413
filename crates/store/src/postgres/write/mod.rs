//! TODO

pub mod batch;
pub mod eager;
pub mod in_doubt;
pub mod reply;
pub mod writer;
