//! Nondeterminism: code that no longer matches its history.
//!
//! `action` describes what the code does, `difference` is the first mismatch that a driver finds, `report` puts it into
//! words, and `policy` decides whether the instance waits or ends.

pub mod action;
pub mod difference;
pub mod policy;
pub mod report;
