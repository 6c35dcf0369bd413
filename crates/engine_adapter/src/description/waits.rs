//! The open steps of a history: what was begun, and has neither ended nor been given up.

use std::collections::{HashMap, HashSet};

use duroxide::{Event, EventKind};
use serde::Serialize;
use store::live::QueuedActivity;

use crate::attempt_header::AttemptHeader;
use crate::cancellation::CANCELLATION_QUEUE;
use crate::description::obstacles::{Obstacle, failure_text, of_activity};
use crate::description::sources::Sources;

/// One step that an instance waits for.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Wait {
    pub kind: &'static str,
    pub name: Option<String>,
    pub event_id: u64,
    /// When the step began, in ms since the epoch.
    pub since: u64,
    /// When a timer is due, or an activity is tried again, in ms since the epoch.
    pub due: Option<u64>,
    pub state: Option<&'static str>,
    /// The number of the try of a retry policy, counted from 1.
    pub attempt: Option<u32>,
    /// How often this try was handed to a worker.
    pub deliveries: Option<u32>,
    /// The recorded failure of the try before.
    pub last_failure: Option<String>,
    pub node: Option<String>,
    pub running_since: Option<u64>,
    pub tag: Option<String>,
    pub session_id: Option<String>,
    /// The instance of a sub-orchestration.
    pub instance_id: Option<String>,
    pub obstacle: Option<Obstacle>,
}

/// The failure of an activity, and where it stands in the history.
struct FailedAttempt<'a> {
    scheduled: u64,
    place: u64,
    turn_ms: u64,
    text: Option<&'a str>,
}

pub fn of(sources: &Sources<'_>) -> Vec<Wait> {
    let steps = Steps::of(sources.history);
    let retries = steps.retries(sources.history);
    let mut waits = Vec::new();
    for event in sources.history.iter().filter(|event| !steps.closed.contains(&event.event_id)) {
        let open = Wait { event_id: event.event_id, since: event.timestamp_ms, ..Wait::default() };
        let wait = match &event.kind {
            EventKind::ActivityScheduled { name, session_id, tag, .. } => {
                let open = Wait { tag: tag.clone(), session_id: session_id.clone(), ..open };
                steps.activity(sources, event, Wait { kind: "activity", name: Some(name.clone()), ..open })
            }
            EventKind::TimerCreated { fire_at_ms } => match retries.get(&event.event_id).copied() {
                Some(scheduled) => steps.retry(scheduled, *fire_at_ms, open),
                None => Wait { kind: "timer", due: Some(*fire_at_ms), ..open },
            },
            EventKind::ExternalSubscribed { name } => Wait { kind: "event", name: Some(name.clone()), ..open },
            EventKind::QueueSubscribed { name } if name.starts_with(CANCELLATION_QUEUE) => continue,
            EventKind::QueueSubscribed { name } => Wait { kind: "queue", name: Some(name.clone()), ..open },
            EventKind::SubOrchestrationScheduled { name, instance, .. } => Wait {
                kind: "child",
                name: Some(name.clone()),
                instance_id: Some(child_id(sources.instance, instance)),
                ..open
            },
            _ => continue,
        };
        waits.push(wait);
    }
    waits
}

/// If the engine named a child, history has only the end of its id.
fn child_id(parent: &str, child: &str) -> String {
    if child.starts_with("sub::") { format!("{parent}::{child}") } else { child.to_owned() }
}

/// The steps of a history by their numbers.
struct Steps<'a> {
    /// The steps that have ended, or that were given up.
    closed: HashSet<u64>,
    scheduled: HashMap<u64, &'a Event>,
    failures: Vec<FailedAttempt<'a>>,
}

impl<'a> Steps<'a> {
    fn of(history: &'a [Event]) -> Self {
        let mut steps = Self { closed: HashSet::new(), scheduled: HashMap::new(), failures: Vec::new() };
        let mut waiting: HashMap<(bool, &str), Vec<u64>> = HashMap::new();
        let mut unread: HashMap<&str, usize> = HashMap::new();
        for event in history {
            match &event.kind {
                EventKind::ActivityScheduled { .. } => _ = steps.scheduled.insert(event.event_id, event),
                EventKind::ActivityFailed { details } => {
                    if let Some(scheduled) = event.source_event_id {
                        let (place, turn_ms) = (event.event_id, event.timestamp_ms);
                        let text = failure_text(details);
                        steps.failures.push(FailedAttempt { scheduled, place, turn_ms, text });
                    }
                    steps.closed.extend(event.source_event_id);
                }
                // These are matched by name, in the order of the waits.
                EventKind::ExternalSubscribed { name } => {
                    waiting.entry((true, name)).or_default().push(event.event_id);
                }
                EventKind::ExternalEvent { name, .. } => steps.close_first(waiting.get_mut(&(true, name.as_str()))),
                EventKind::QueueSubscribed { name } => match unread.get_mut(name.as_str()) {
                    Some(count) if *count > 0 => {
                        *count -= 1;
                        steps.closed.insert(event.event_id);
                    }
                    _ => waiting.entry((false, name)).or_default().push(event.event_id),
                },
                EventKind::QueueEventDelivered { name, .. } => {
                    let open = waiting.get_mut(&(false, name.as_str())).filter(|open| !open.is_empty());
                    match open {
                        Some(open) => steps.close_first(Some(open)),
                        None => *unread.entry(name).or_default() += 1,
                    }
                }
                EventKind::ExternalSubscribedCancelled { .. } | EventKind::QueueSubscriptionCancelled { .. } => {
                    for open in waiting.values_mut() {
                        open.retain(|id| Some(*id) != event.source_event_id);
                    }
                    steps.closed.extend(event.source_event_id);
                }
                _ => steps.closed.extend(event.source_event_id),
            }
        }
        steps
    }

    fn close_first(&mut self, waiting: Option<&mut Vec<u64>>) {
        if let Some(waiting) = waiting.filter(|waiting| !waiting.is_empty()) {
            self.closed.insert(waiting.remove(0));
        }
    }

    /// The timers between two tries of an activity, each with the try that failed. A retry policy starts the timer in the
    /// turn that reads the failure.
    fn retries(&self, history: &[Event]) -> HashMap<u64, u64> {
        let mut retries = HashMap::new();
        let mut timers = history.iter().filter(|event| matches!(event.kind, EventKind::TimerCreated { .. })).peekable();
        for failed in &self.failures {
            let is_tried_again = self.scheduled.iter().any(|(id, event)| {
                *id > failed.place
                    && event.timestamp_ms == failed.turn_ms
                    && self.scheduled.get(&failed.scheduled).is_some_and(|first| is_same_call(first, event))
            });
            if is_tried_again {
                continue;
            }
            while timers.next_if(|timer| timer.event_id < failed.place).is_some() {}
            if let Some(timer) = timers.next_if(|timer| timer.timestamp_ms == failed.turn_ms) {
                retries.insert(timer.event_id, failed.scheduled);
            }
        }
        retries
    }

    /// An activity in the queue, or one that runs.
    fn activity(&self, sources: &Sources<'_>, event: &Event, open: Wait) -> Wait {
        let (attempt, last_failure) = self.tries_before(event);
        let queued = sources
            .live
            .activities
            .iter()
            .find(|queued| queued.id == event.event_id && queued.execution == sources.execution);
        let wait = Wait { attempt: Some(attempt), last_failure, ..open };
        let Some(queued) = queued else {
            // Its result is on its way to the instance.
            return Wait { state: Some("ended"), ..wait };
        };
        let wait = Wait { deliveries: Some(queued.deliveries), ..wait };
        match &queued.lease {
            None => {
                let obstacle = of_activity(sources, wait.name.as_deref().unwrap_or_default(), queued);
                Wait { state: Some("queued"), obstacle, ..wait }
            }
            Some(lease) => {
                let node = sources.node_name(lease.node.as_deref());
                let running_since = running_since(sources, queued);
                Wait { state: Some("running"), node, running_since: running_since.or(lease.since_ms), ..wait }
            }
        }
    }

    fn retry(&self, scheduled: u64, due: u64, open: Wait) -> Wait {
        let Some(event) = self.scheduled.get(&scheduled) else { return open };
        let EventKind::ActivityScheduled { name, session_id, tag, .. } = &event.kind else { return open };
        let (attempt, _) = self.tries_before(event);
        let failure = self.failures.iter().find(|failed| failed.scheduled == scheduled);
        Wait {
            kind: "activity",
            name: Some(name.clone()),
            event_id: scheduled,
            since: self.first_try(event).timestamp_ms,
            due: Some(due),
            state: Some("retrying"),
            attempt: Some(attempt + 1),
            last_failure: failure.and_then(|failed| failed.text).map(str::to_owned),
            tag: tag.clone(),
            session_id: session_id.clone(),
            ..open
        }
    }

    /// The number of this try, and the failure of the one before.
    fn tries_before(&self, event: &Event) -> (u32, Option<String>) {
        let mut tries = 1;
        let mut last_failure = None;
        let mut current = event;
        while let Some(earlier) = self.earlier_try(current) {
            if last_failure.is_none() {
                last_failure = earlier.text.map(str::to_owned);
            }
            tries += 1;
            match self.scheduled.get(&earlier.scheduled) {
                Some(event) => current = event,
                None => break,
            }
        }
        (tries, last_failure)
    }

    fn first_try(&self, event: &'a Event) -> &'a Event {
        let mut current = event;
        while let Some(earlier) = self.earlier_try(current).and_then(|failed| self.scheduled.get(&failed.scheduled)) {
            current = earlier;
        }
        current
    }

    /// The newest failure of the same call before `event`.
    fn earlier_try(&self, event: &Event) -> Option<&FailedAttempt<'a>> {
        self.failures.iter().rev().find(|failed| {
            failed.place < event.event_id
                && failed.scheduled < event.event_id
                && self.scheduled.get(&failed.scheduled).is_some_and(|earlier| is_same_call(earlier, event))
        })
    }
}

fn is_same_call(one: &Event, other: &Event) -> bool {
    let (
        EventKind::ActivityScheduled { name, input, .. },
        EventKind::ActivityScheduled { name: other_name, input: other_input, .. },
    ) = (&one.kind, &other.kind)
    else {
        return false;
    };
    name == other_name && AttemptHeader::split(input).1 == AttemptHeader::split(other_input).1
}

fn running_since(sources: &Sources<'_>, queued: &QueuedActivity) -> Option<u64> {
    let mut running = sources.live.nodes.iter().flat_map(|node| &node.running);
    let found = running.find(|running| {
        running.id == queued.id && running.execution == queued.execution && running.instance == sources.instance
    });
    found.map(|running| running.since_ms)
}
