//! The memory of the owner, which is authoritative while the owner has the lock. One lock guards all of it.
//!
//! - `state` has everything, and `ids` the types of its keys.
//! - `instance` has one instance with its messages. `turns` has the queue of ready instances and the leases of turns.
//!   `capabilities` tells which turns a dispatcher can run.
//! - `activity_queue` has the activities, their leases and their sessions.
//! - `due` has the timers, and `due_item` what they are for. `waiters` has the fetches that wait for work.

pub mod activity_queue;
pub mod capabilities;
pub mod due;
pub mod due_item;
pub mod ids;
pub mod instance;
pub mod sessions;
pub mod state;
pub mod turns;
pub mod waiters;
