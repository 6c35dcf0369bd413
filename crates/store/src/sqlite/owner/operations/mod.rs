//! TODO

pub mod activities;
pub mod deletion;
pub mod load;
pub mod messages;
pub mod outbox;
pub mod turn_end;
pub mod turns;
