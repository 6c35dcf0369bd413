//! The way of changes to the disk.
//!
//! - `writer` is the writer thread. It takes each `job`, and commits the changes of many operations as one transaction.
//! - `change` has the changes and their statements, and `turn_row` those of a turn. `rows` and `totals` have what both
//!   write.
//! - `records` reads waiting work and the records of instances back into memory.
//! - `effect` is applied to the memory when the changes are on the disk.
//! - `health` tells whether the disk accepts writes and can be trusted.

pub mod change;
pub mod effect;
pub mod health;
pub mod job;
pub mod records;
pub mod rows;
pub mod totals;
pub mod turn_row;
pub mod writer;
