//! The capabilities of a dispatcher: the recorded executions that it can replay.

use crate::sqlite::owner::memory::ids::Version;
use crate::sqlite::owner::memory::instance::Instance;

/// The versions of recorded executions that a dispatcher can replay.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    pub first: Version,
    pub last: Version,
    /// The dispatcher can replay no version.
    pub none: bool,
}

impl Capabilities {
    fn accepts(self, pinned: Option<Version>) -> bool {
        !self.none && pinned.is_none_or(|version| self.first <= version && version <= self.last)
    }
}

/// Whether a dispatcher can run a turn of `instance`. Without a filter, it can run each.
pub fn accepts(filter: Option<&Capabilities>, instance: &Instance) -> bool {
    let pinned = instance.record.as_ref().and_then(|record| record.pinned);
    filter.is_none_or(|capabilities| capabilities.accepts(pinned))
}
