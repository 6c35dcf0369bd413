//! How far the actions of the code have been compared with the recorded ones.

use std::sync::Arc;

use engine_adapter::{CodeLocation, Described};

use crate::orchestration::operation::Node;

/// The first action that is not the recorded one.
pub(crate) struct Mismatch {
    pub(crate) event_id: u64,
    pub(crate) actual: Described,
    /// What asked for it, and where; an effect has no task, so its line is looked up at once.
    pub(crate) node: Option<Arc<Node>>,
    pub(crate) location: Option<CodeLocation>,
    /// False where the engine may pass over the recorded action, so that all that follows is shifted.
    pub(crate) is_certain: bool,
}

/// How far code and history have been compared.
#[derive(Default)]
pub(super) struct Comparison {
    pub(super) found: Option<Mismatch>,
    pub(super) is_over: bool,
}
