//! What stands in the way of an activity or of a turn: each a fact that an operator can change.

use duroxide::ErrorDetails;
use serde::Serialize;
use store::live::{NodeReport, QueuedActivity, RuntimeReport};

use crate::description::sources::Sources;

/// A fact that keeps work from going on, and its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    pub kind: &'static str,
    pub message: String,
    /// Since when, in ms since the epoch, where that is known.
    pub since: Option<u64>,
}

impl Obstacle {
    fn new(kind: &'static str, message: String) -> Self {
        Self { kind, message, since: None }
    }

    fn no_runtime() -> Self {
        Self::new("no_runtime", "no runtime works on the store; start one".to_owned())
    }
}

/// The recorded text of a failure; `None` where the engine has written it.
pub fn failure_text(details: &ErrorDetails) -> Option<&str> {
    match details {
        ErrorDetails::Application { message, .. } => Some(message),
        ErrorDetails::Poison { .. } | ErrorDetails::Infrastructure { .. } | ErrorDetails::Configuration { .. } => None,
    }
}

/// What keeps an instance from its next turn.
pub fn of_instance(sources: &Sources<'_>) -> Option<Obstacle> {
    if let Some(report) = &sources.mismatch {
        return Some(Obstacle::new("mismatch", report.clone()));
    }
    if let Some(refused) = refusal(sources) {
        return Some(refused);
    }
    let waits_for_turn = sources.live.has_work || !sources.has_begun;
    if !waits_for_turn || sources.live.turn.is_some() {
        return None;
    }
    if sources.live.nodes.is_empty() {
        return Some(Obstacle::no_runtime());
    }
    no_code(sources)
}

fn refusal(sources: &Sources<'_>) -> Option<Obstacle> {
    let mut refused = sources.live.nodes.iter().flat_map(|node| &node.refused);
    let refused = refused.find(|refused| refused.instance == sources.instance)?;
    Some(Obstacle {
        kind: "refused",
        message: format!("the store refuses its turn: {}", refused.message),
        since: Some(refused.since_ms),
    })
}

fn no_code(sources: &Sources<'_>) -> Option<Obstacle> {
    let name = sources.orchestration;
    let mut known = runtimes(&sources.live.nodes)
        .flat_map(|(_, runtime)| &runtime.orchestrations)
        .filter(|(registered, _)| registered == name)
        .peekable();
    if known.peek().is_none() {
        return Some(Obstacle::new("no_code", format!("no runtime has the orchestration '{name}'; register it")));
    }
    let version = sources.version?;
    let mut versions: Vec<&str> = known.flat_map(|(_, versions)| versions).map(String::as_str).collect();
    if versions.contains(&version) {
        return None;
    }
    versions.sort_unstable();
    versions.dedup();
    let message = format!(
        "no runtime has version {version} of the orchestration '{name}'; registered are: {}",
        versions.join(", ")
    );
    Some(Obstacle::new("no_code", message))
}

fn runtimes(nodes: &[NodeReport]) -> impl Iterator<Item = (&NodeReport, &RuntimeReport)> {
    nodes.iter().flat_map(|node| node.runtimes.iter().map(move |runtime| (node, runtime)))
}

/// What keeps an activity in the queue.
pub fn of_activity(sources: &Sources<'_>, name: &str, queued: &QueuedActivity) -> Option<Obstacle> {
    let nodes = &sources.live.nodes;
    if nodes.is_empty() {
        return Some(Obstacle::no_runtime());
    }
    let has_code = |runtime: &RuntimeReport| runtime.activities.iter().any(|registered| registered == name);
    if !runtimes(nodes).any(|(_, runtime)| has_code(runtime)) {
        return Some(Obstacle::new("no_code", format!("no runtime has the activity '{name}'; register it")));
    }
    let tag = queued.tag.as_deref();
    let able: Vec<_> = runtimes(nodes)
        .filter(|(_, runtime)| has_code(runtime) && runtime.tags.takes(tag) && runtime.worker_slots > 0)
        .collect();
    if able.is_empty() {
        let message = match tag {
            Some(tag) => format!("no runtime with the activity '{name}' takes the tag '{tag}'"),
            None => format!("no runtime with the activity '{name}' takes activities without a tag"),
        };
        return Some(Obstacle::new("no_worker", message));
    }
    of_session(queued, &able).or_else(|| busy(&able))
}

fn of_session(queued: &QueuedActivity, able: &[(&NodeReport, &RuntimeReport)]) -> Option<Obstacle> {
    let session = queued.session.as_deref()?;
    let holder = queued
        .session_worker
        .as_ref()
        .map(|worker| able.iter().find(|(_, runtime)| runtime.session_workers.contains(worker)));
    match holder {
        None => session_limit(session, able),
        // A runtime at its limit takes no activity of a session, not even of one that it holds.
        Some(Some(holder)) => session_limit(session, std::slice::from_ref(holder)).or_else(|| busy(&[*holder])),
        Some(None) => {
            let message = format!("the session '{session}' belongs to a runtime that has ended, until its lease ends");
            Some(Obstacle::new("session_limit", message))
        }
    }
}

fn session_limit(session: &str, able: &[(&NodeReport, &RuntimeReport)]) -> Option<Obstacle> {
    let is_full = able.iter().all(|(_, runtime)| runtime.sessions >= runtime.max_sessions);
    let sessions: usize = able.iter().map(|(_, runtime)| runtime.sessions).sum();
    is_full.then(|| {
        let message = format!(
            "every runtime that could take the session '{session}' holds as many sessions as it may ({sessions} in all); \
             raise max_sessions_per_runtime, or start another runtime"
        );
        Obstacle::new("session_limit", message)
    })
}

fn busy(able: &[(&NodeReport, &RuntimeReport)]) -> Option<Obstacle> {
    let is_busy = able.iter().all(|(_, runtime)| runtime.busy_workers >= runtime.worker_slots);
    let slots: usize = able.iter().map(|(_, runtime)| runtime.worker_slots).sum();
    is_busy.then(|| {
        let message = format!("all {slots} slots of the runtimes that could run it are in use");
        Obstacle::new("busy", message)
    })
}
