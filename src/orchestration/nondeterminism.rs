//! Telling the dispatcher where the code of a turn has left its history, before the code is gone.

use serde::Deserialize;

use crate::boundary::enter;
use crate::orchestration::arena::Unlike;
use crate::orchestration::execution::Turn;
use crate::orchestration::operation::{Node, place_of};
use engine_adapter::TurnRecord;
use engine_adapter::{Did, Difference, Place};

/// Notes the first difference, if there is one; `end` is how the orchestration has ended, if it has.
pub(crate) fn note_difference(turn: &Turn, record: &TurnRecord, end: Option<&Result<String, String>>) {
    let (unlike, next, actions, continued) = {
        let mut arena = turn.arena();
        (arena.take_unlike(), arena.next_recorded(), arena.actions(), arena.continued)
    };
    let difference = match (unlike, next) {
        (Some(unlike), next) => {
            let Unlike { event_id, did, node, place, is_certain } = unlike;
            let place = place.or_else(|| place_of_task(node.as_deref()?));
            let decides = end.is_some() && (is_certain || next.is_some());
            Difference { event_id, did: Did::Action(did), place, decides }
        }
        (None, Some(event_id)) => {
            let recorded = turn.arena().timeline.recorded_actions();
            let done = format!("after {actions} of {recorded} recorded operations");
            let awaited = if end.is_none() && !continued { turn.arena().awaited() } else { None };
            let why = match (end, &awaited) {
                (Some(Ok(_)), _) => format!("it returned {done}"),
                (Some(Err(failure)), _) => format!("it raised {} {done}", named(failure)),
                (None, _) if continued => format!("it continued as new {done}"),
                (None, Some(node)) => format!("it stands at {} {done}", node.operation.describe()),
                (None, None) => format!("it stands still {done}"),
            };
            let place = awaited.and_then(|node| place_of_task(&node));
            Difference { event_id, did: Did::Nothing(why), place, decides: end.is_some() }
        }
        (None, None) => return,
    };
    record.note_difference(difference);
}

/// A recorded failure, with the name of its class and the beginning of what it says.
fn named(failure: &str) -> String {
    #[derive(Deserialize)]
    struct Recorded {
        r#type: String,
        message: String,
    }
    let text = serde_json::from_str::<Recorded>(failure)
        .map_or_else(|_| failure.to_owned(), |recorded| format!("{}: {}", recorded.r#type, recorded.message));
    match text.char_indices().nth(LONGEST_FAILURE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

const LONGEST_FAILURE: usize = 300;

fn place_of_task(node: &Node) -> Option<Place> {
    let origin = node.origin.as_ref()?;
    Some(enter(|py| place_of(py, origin)))
}
