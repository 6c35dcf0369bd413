//! The slots that the event loop of an orchestration waits for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The slots that the event loop waits for.
#[derive(Default)]
pub(crate) struct Watched {
    /// Slots whose completion is not known yet, by action.
    pub(super) unknown: HashMap<usize, usize>,
    /// Slots whose completion is known, by its place in history.
    pub(super) due: BTreeMap<usize, usize>,
    /// Slots without a completion in history: messages, combinators, retries and branches, in start order.
    pub(super) others: BTreeSet<usize>,
}

impl Watched {
    pub(super) fn has_completions(&self) -> bool {
        !self.unknown.is_empty() || !self.due.is_empty()
    }
}
