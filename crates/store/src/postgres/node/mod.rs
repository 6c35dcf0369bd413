//! TODO

pub mod cancelled_activities;
pub mod held_turns;
pub mod history_cache;
pub mod prefetch;
pub mod request;
pub mod state;
