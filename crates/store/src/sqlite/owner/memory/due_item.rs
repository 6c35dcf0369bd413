//! An item that becomes due: a message, an activity, or the orphans of an instance.

use crate::sqlite::owner::memory::ids::{Number, Sequence};

/// Unneeded timers stay in memory until there are this many timers.
pub const MIN_DUE_LIMIT: usize = 4096;

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub enum DueItem {
    Message(Number, Sequence),
    Activity(Sequence),
    /// The messages of an instance up to this one, if the instance was not started by then.
    Orphans(Number, Sequence),
}
