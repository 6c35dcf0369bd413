//! Comparing what the code does with what history records in its place, so that a difference can be shown.
//!
//! The engine decides whether code and history match. It says so when the code is gone; what the code did is only known
//! here, while it does it.

use std::borrow::Cow;
use std::sync::Arc;

use crate::orchestration::arena::Arena;
use crate::orchestration::arena::comparison::Mismatch;
use crate::orchestration::arena::journal::{Effect, READ_VALUE, read_value_input};
use crate::orchestration::arena::slot::Waiting;
use crate::orchestration::operation::{Node, Operation};
use crate::orchestration::timeline::Scheduled;
use engine_adapter::{Action, AttemptHeader, CodeLocation};

impl Arena {
    /// Counts an action, which `node` describes if it has a task, and looks at what history has in its place.
    pub(super) fn act<'a>(&mut self, node: Option<&Arc<Node>>, action: impl FnOnce() -> Option<Action<'a>>) -> usize {
        let number = self.actions;
        self.actions += 1;
        if let Some(recorded) = self.timeline.scheduled(number)
            && !self.comparison.is_over
            && let Some(action) = action()
            && recorded.fingerprint != action.fingerprint()
        {
            self.differs(recorded, &action, node);
        }
        number
    }

    fn differs(&mut self, recorded: Scheduled, action: &Action<'_>, node: Option<&Arc<Node>>) {
        let is_certain = !recorded.is_effect;
        if is_certain || self.comparison.found.is_none() {
            self.comparison.found = Some(Mismatch {
                event_id: recorded.event_id,
                actual: action.describe(),
                node: node.cloned(),
                location: None,
                is_certain,
            });
        }
        // The engine lets removed keys change places among themselves, as earlier versions have recorded them.
        self.comparison.is_over = is_certain || !matches!(action, Action::ClearValue { .. });
    }

    /// Whether the difference that was found just now is without the line of the code.
    pub(crate) fn lacks_location(&self) -> bool {
        self.comparison.found.as_ref().is_some_and(|found| found.node.is_none() && found.location.is_none())
    }

    pub(crate) fn set_location(&mut self, location: Option<CodeLocation>) {
        if let Some(found) = &mut self.comparison.found {
            found.location = location;
        }
    }

    /// Gives away the difference that was found, if there is one.
    pub(crate) fn take_mismatch(&mut self) -> Option<Mismatch> {
        self.comparison.found.take()
    }

    /// The first recorded action that the code has not come to.
    pub(crate) fn next_recorded(&self) -> Option<u64> {
        self.timeline.event_id(self.actions)
    }

    /// The slot that the orchestration itself waits for.
    pub(crate) fn awaited(&self) -> Option<Arc<Node>> {
        match self.branches.first()?.waiting {
            Waiting::On(slot) => Some(self.node(slot)),
            Waiting::InLoop => self.first_watched().map(|slot| self.node(slot)),
            _ => None,
        }
    }
}

/// The action that an attempt of an activity records, whose input has a header in front.
pub(super) fn attempt_action(operation: &Operation, header: AttemptHeader) -> Option<Action<'_>> {
    match action_of(operation) {
        Some(Action::Activity { name, input, session, tag }) => {
            Some(Action::Activity { name, input: Cow::Owned(header.before(&input)), session, tag })
        }
        other => other,
    }
}

/// The action that an operation records. An operation that is made of others records nothing.
pub(super) fn action_of(operation: &Operation) -> Option<Action<'_>> {
    Some(match operation {
        Operation::Activity(call) => Action::Activity {
            name: &call.name,
            input: Cow::Borrowed(&call.input),
            session: call.session_id.as_deref(),
            tag: call.tag.get().map(|tag| Cow::Owned(tag.into())),
        },
        Operation::InstanceValue { instance_id, key } => Action::Activity {
            name: READ_VALUE,
            input: Cow::Owned(read_value_input(instance_id, key)),
            session: None,
            tag: None,
        },
        Operation::SubOrchestration { name, input, .. } => Action::SubOrchestration { name, input },
        Operation::Start { name, instance_id, input, .. } => Action::Start { name, instance: instance_id, input },
        Operation::Timer(_) => Action::Timer,
        Operation::Event(name) => Action::Event { name },
        Operation::Queue(name) => Action::Queue { name },
        Operation::ContinueAsNew { .. }
        | Operation::All(_)
        | Operation::Gather(_)
        | Operation::Race(_)
        | Operation::Wait { .. }
        | Operation::Branch(_) => return None,
    })
}

impl Effect {
    pub(super) fn action(&self) -> Action<'_> {
        match self {
            Self::SetStatus(_) => Action::Status,
            Self::SetValue { key, value } => Action::SetValue { key, value },
            Self::ClearValue(key) => Action::ClearValue { key },
            Self::ClearValues => Action::ClearValues,
        }
    }
}
