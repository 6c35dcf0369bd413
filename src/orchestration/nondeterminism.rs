//! Telling the dispatcher where the code of a turn has left its history, before the code is gone.

use serde::Deserialize;

use crate::boundary::enter;
use crate::orchestration::arena::Mismatch;
use crate::orchestration::code_location::code_location;
use crate::orchestration::execution::Execution;
use crate::orchestration::operation::Node;
use engine_adapter::TurnRecord;
use engine_adapter::{ActualAction, CodeLocation, MismatchReport};

/// Notes the first difference, if there is one; `end` is how the orchestration has ended, if it has.
pub(crate) fn note_mismatch(execution: &Execution, record: &TurnRecord, end: Option<&Result<String, String>>) {
    let (mismatch, next, actions, continued) = {
        let mut arena = execution.arena();
        (arena.take_mismatch(), arena.next_recorded(), arena.actions(), arena.continued)
    };
    let mismatch = match (mismatch, next) {
        (Some(mismatch), next) => {
            let Mismatch { event_id, actual, node, location, is_certain } = mismatch;
            let location = location.or_else(|| location_of(node.as_deref()?));
            let decides = end.is_some() && (is_certain || next.is_some());
            MismatchReport { event_id, actual: ActualAction::Action(actual), location, decides }
        }
        (None, Some(event_id)) => {
            let recorded = execution.arena().timeline.recorded_actions();
            let done = format!("after {actions} of {recorded} recorded operations");
            let awaited = if end.is_none() && !continued { execution.arena().awaited() } else { None };
            let why = match (end, &awaited) {
                (Some(Ok(_)), _) => format!("it returned {done}"),
                (Some(Err(failure)), _) => format!("it raised {} {done}", named(failure)),
                (None, _) if continued => format!("it continued as new {done}"),
                (None, Some(node)) => format!("it stands at {} {done}", node.operation.describe()),
                (None, None) => format!("it stands still {done}"),
            };
            let location = awaited.and_then(|node| location_of(&node));
            MismatchReport { event_id, actual: ActualAction::Nothing(why), location, decides: end.is_some() }
        }
        (None, None) => return,
    };
    record.report_mismatch(mismatch);
}

/// A recorded failure, with the name of its class and the beginning of what it says.
fn named(failure: &str) -> String {
    #[derive(Deserialize)]
    struct NamedFailure {
        r#type: String,
        message: String,
    }
    let text = serde_json::from_str::<NamedFailure>(failure)
        .map_or_else(|_| failure.to_owned(), |recorded| format!("{}: {}", recorded.r#type, recorded.message));
    match text.char_indices().nth(LONGEST_FAILURE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

const LONGEST_FAILURE: usize = 300;

fn location_of(node: &Node) -> Option<CodeLocation> {
    let origin = node.origin.as_ref()?;
    Some(enter(|py| code_location(py, origin)))
}
