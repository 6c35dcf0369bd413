//! What history says about the requests of a turn: when each completed, and whether it was known before this turn.
//!
//! The engine matches the n-th emitted action with the n-th recorded schedule event, so the number of an action is
//! enough to find its completion. Messages that are delivered by name are matched by name and payload, in order.

use std::collections::HashMap;

use crate::store::{RecordedKind, TurnRecord, hash_data};

/// When an outcome was recorded.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) time_ms: u64,
    /// It arrived with this turn: code that runs because of it has never run before.
    pub(crate) is_new: bool,
}

impl Moment {
    pub(crate) const BEGINNING: Self = Self { time_ms: 0, is_new: false };

    /// The later of two moments; new if one of them is.
    pub(crate) fn join(self, other: Self) -> Self {
        Self { time_ms: self.time_ms.max(other.time_ms), is_new: self.is_new || other.is_new }
    }
}

struct Completion {
    moment: Moment,
    failed: bool,
}

struct Arrival {
    data: u64,
    moment: Moment,
    consumed: bool,
}

/// The two mailboxes in which messages arrive by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mailbox {
    Event,
    Queue,
}

pub(crate) struct Timeline {
    scheduled: Vec<(u64, u64)>,
    completions: HashMap<u64, Completion>,
    arrivals: HashMap<(Mailbox, String), Vec<Arrival>>,
    now_ms: u64,
}

impl Timeline {
    pub(crate) fn new(record: &TurnRecord) -> Self {
        let mut timeline = Self {
            scheduled: Vec::new(),
            completions: HashMap::new(),
            arrivals: HashMap::new(),
            now_ms: record.time_ms,
        };
        for (position, event) in record.events.iter().enumerate() {
            let moment = Moment { time_ms: event.timestamp_ms, is_new: position >= record.persisted };
            match &event.kind {
                RecordedKind::Scheduled => timeline.scheduled.push((event.event_id, event.timestamp_ms)),
                RecordedKind::Succeeded => timeline.complete(event.source_event_id, moment, false),
                RecordedKind::Failed => timeline.complete(event.source_event_id, moment, true),
                RecordedKind::Event { name, data } => timeline.arrive(Mailbox::Event, name, *data, moment),
                RecordedKind::Queue { name, data } => timeline.arrive(Mailbox::Queue, name, *data, moment),
                RecordedKind::Other => {}
            }
        }
        timeline
    }

    fn complete(&mut self, source: Option<u64>, moment: Moment, failed: bool) {
        if let Some(source) = source {
            self.completions.entry(source).or_insert(Completion { moment, failed });
        }
    }

    fn arrive(&mut self, mailbox: Mailbox, name: &str, data: u64, moment: Moment) {
        let arrival = Arrival { data, moment, consumed: false };
        self.arrivals.entry((mailbox, name.to_owned())).or_default().push(arrival);
    }

    /// How many actions earlier turns of this execution have recorded.
    pub(crate) fn recorded_actions(&self) -> usize {
        self.scheduled.len()
    }

    /// The event id of an action, if an earlier turn recorded it.
    pub(crate) fn event_id(&self, action: usize) -> Option<u64> {
        self.scheduled.get(action).map(|(event_id, _)| *event_id)
    }

    /// When an action was recorded; one of this turn will be recorded with the turn's time.
    pub(crate) fn recorded_at(&self, action: usize) -> u64 {
        self.scheduled.get(action).map_or(self.now_ms, |(_, time_ms)| *time_ms)
    }

    /// When the completion of an action was recorded.
    pub(crate) fn completed_at(&self, action: usize) -> Moment {
        self.event_id(action)
            .and_then(|event_id| self.completions.get(&event_id))
            .map_or(Moment { time_ms: self.now_ms, is_new: true }, |completion| completion.moment)
    }

    /// Whether the completion of an action, as far as it is known in this turn, is a failure.
    pub(crate) fn will_fail(&self, action: usize) -> bool {
        self.event_id(action)
            .and_then(|event_id| self.completions.get(&event_id))
            .is_some_and(|completion| completion.failed)
    }

    /// Takes the first message of that name and payload that nobody has taken yet.
    pub(crate) fn take_arrival(&mut self, mailbox: Mailbox, name: &str, data: &str) -> Moment {
        let hash = hash_data(data);
        self.arrivals
            .get_mut(&(mailbox, name.to_owned()))
            .and_then(|arrivals| arrivals.iter_mut().find(|arrival| !arrival.consumed && arrival.data == hash))
            .map_or(Moment { time_ms: self.now_ms, is_new: true }, |arrival| {
                arrival.consumed = true;
                arrival.moment
            })
    }
}
