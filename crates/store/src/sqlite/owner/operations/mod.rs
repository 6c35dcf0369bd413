//! The operations of the owner: each changes the memory under its lock, and sends the changes for the file to the
//! writer.
//!
//! - `turns` fetches, renews and abandons turns, and `turn_end` acknowledges them. `activities` does the same for
//!   activities.
//! - `messages` takes in starts and messages, and `outbox` takes them from the outboxes of applications.
//! - `deletion` deletes instances and prunes executions.
//! - `seizure` takes turns away from dispatchers, for terminations.
//! - `live` describes what is under way for an instance.
//! - `load` reads instances from the file into memory.
//! - `waiter_guard` belongs to a fetch that waits for work.

pub mod activities;
pub mod deletion;
pub mod live;
pub mod load;
pub mod messages;
pub mod outbox;
pub mod seizure;
pub mod turn_end;
pub mod turns;
pub mod waiter_guard;
