//! Telling the dispatcher where the code of a turn has left its history, before the code is gone.

use serde::Deserialize;

use crate::boundary::enter;
use crate::orchestration::arena::Mismatch;
use crate::orchestration::code_location::code_location;
use crate::orchestration::execution::Execution;
use crate::orchestration::operation::Node;
use engine_adapter::TurnRecord;
use engine_adapter::{Did, Difference, Place};

/// Notes the first difference, if there is one; `end` is how the orchestration has ended, if it has.
pub(crate) fn note_mismatch(execution: &Execution, record: &TurnRecord, end: Option<&Result<String, String>>) {
    let (mismatch, next, actions, continued) = {
        let mut arena = execution.arena();
        (arena.take_mismatch(), arena.next_recorded(), arena.actions(), arena.continued)
    };
    let difference = match (mismatch, next) {
        (Some(mismatch), next) => {
            let Mismatch { event_id, did, node, place, is_certain } = mismatch;
            let place = place.or_else(|| location_of(node.as_deref()?));
            let decides = end.is_some() && (is_certain || next.is_some());
            Difference { event_id, did: Did::Action(did), place, decides }
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
            let place = awaited.and_then(|node| location_of(&node));
            Difference { event_id, did: Did::Nothing(why), place, decides: end.is_some() }
        }
        (None, None) => return,
    };
    record.note_difference(difference);
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

fn location_of(node: &Node) -> Option<Place> {
    let origin = node.origin.as_ref()?;
    Some(enter(|py| code_location(py, origin)))
}
