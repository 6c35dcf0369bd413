//! Code that no longer does what its history records: how it is noticed, reported and handled.

pub mod action;
pub mod difference;
pub mod policy;
pub mod report;
