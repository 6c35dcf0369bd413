//! The first difference between code and history, as the driver sees it.

use crate::nondeterminism::action::Described;

/// A line of the user's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    pub line: i32,
    /// The text of the line, if it is at hand.
    pub source: String,
}

/// What the code did where history records something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Did {
    Action(Described),
    /// Nothing more; why.
    Nothing(String),
}

/// The first difference between code and history, as the driver sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The number of the recorded event.
    pub event_id: u64,
    pub did: Did,
    pub place: Option<Place>,
    /// The code has ended, so the engine, which asks no further, may have seen nothing.
    pub decides: bool,
}
