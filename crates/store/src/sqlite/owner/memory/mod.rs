//! TODO

pub mod activity_queue;
pub mod due;
pub mod ids;
pub mod instance;
pub mod state;
pub mod turns;
pub mod waiters;
