//! The first mismatch between code and history, as the driver reports it.

use crate::nondeterminism::action::Described;

/// A line of the user's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeLocation {
    pub file: String,
    pub line: i32,
    /// The text of the line, if the file can be read.
    pub source: String,
}

/// The action of the code where the history records something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActualAction {
    Action(Described),
    /// The code did nothing more. The text says why.
    Nothing(String),
}

/// The first mismatch between code and history, as the driver reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MismatchReport {
    /// The number of the recorded event.
    pub event_id: u64,
    pub actual: ActualAction,
    pub location: Option<CodeLocation>,
    /// Whether this mismatch counts even if the engine found none. The engine compares nothing after the code has
    /// ended.
    pub decides: bool,
}
