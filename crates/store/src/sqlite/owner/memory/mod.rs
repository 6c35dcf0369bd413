//! The memory of the owner, which is authoritative while the owner has the lock. One lock guards all of it.
//!
//! - `state` has everything, and `ids` the types of its keys.
//! - `instance` has one instance with its messages. `turns` has the queue of ready instances and the leases of turns.
//! - `activity_queue` has the activities, their leases and their sessions.
//! - `due` has the timers. `waiters` has the fetches that wait for work.

pub mod activity_queue;
pub mod due;
pub mod ids;
pub mod instance;
pub mod state;
pub mod turns;
pub mod waiters;
