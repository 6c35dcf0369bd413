//! Nondeterminism: code that no longer matches its history.
//!
//! `action` describes what the code does, `mismatch_report` holds the first mismatch that a driver finds, `report` puts
//! it into words, and `policy` decides whether the instance waits or ends.

pub mod action;
pub mod mismatch_report;
pub mod policy;
pub mod report;
