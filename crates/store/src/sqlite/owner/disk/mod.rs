//! TODO

pub mod change;
pub mod effect;
pub mod health;
pub mod turn_row;
pub mod writer;
