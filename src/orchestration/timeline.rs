//! When what history records happened: what code may know of time, and which completion belongs to which action.
//!
//! The engine pairs the n-th action of the code with the n-th recorded schedule event, so the number of an action is
//! enough to find its completion. Messages that are delivered by name are matched by name and payload, in order.
//!
//! It grows from turn to turn. What arrives with a turn is known before it is recorded; the next turn finds it in
//! history and takes it from there, at its place.

use std::collections::{HashMap, VecDeque};
use std::mem;

use engine_adapter::{AttemptHeader, RecordedEvent, RecordedKind, TurnRecord, hash_data};

/// The number of the turn for what was recorded before it was known of.
const RECORDED: u32 = 0;

/// When an outcome was recorded.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) time_ms: u64,
    /// The turn with which it arrived.
    turn: u32,
}

impl Moment {
    pub(crate) const BEGINNING: Self = Self { time_ms: 0, turn: RECORDED };

    /// The later of two moments.
    pub(crate) fn join(self, other: Self) -> Self {
        Self { time_ms: self.time_ms.max(other.time_ms), turn: self.turn.max(other.turn) }
    }
}

struct ActionCompletion {
    moment: Moment,
    failed: bool,
    /// Its place among all completions that were learned of.
    order: usize,
}

struct Arrival {
    data: u64,
    moment: Moment,
    consumed: bool,
}

/// The two mailboxes in which messages arrive by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum MessageKind {
    Event,
    Queue,
}

type Address = (MessageKind, String);

/// An action that an earlier turn has recorded.
#[derive(Clone, Copy)]
pub(crate) struct Scheduled {
    pub(crate) event_id: u64,
    time_ms: u64,
    /// Of the action, to be compared with that of the code's.
    pub(crate) fingerprint: u64,
    pub(crate) is_effect: bool,
    /// The header that was recorded with an attempt of an activity.
    pub(crate) header: Option<AttemptHeader>,
}

pub(crate) struct Timeline {
    scheduled: Vec<Scheduled>,
    completions: HashMap<u64, ActionCompletion>,
    /// Without the recorded ones that are consumed, as far as nothing else stands before them.
    arrivals: HashMap<Address, VecDeque<Arrival>>,
    learned: usize,
    now_ms: u64,
    turn: u32,
    /// Completions that this turn knows and history does not record yet.
    new_completions: Vec<u64>,
    new_arrivals: Vec<Address>,
}

impl Timeline {
    pub(crate) fn new(record: &TurnRecord) -> Self {
        let mut timeline = Self {
            scheduled: Vec::new(),
            completions: HashMap::new(),
            arrivals: HashMap::new(),
            learned: 0,
            now_ms: record.time_ms,
            turn: RECORDED,
            new_completions: Vec::new(),
            new_arrivals: Vec::new(),
        };
        timeline.extend(record);
        timeline
    }

    /// Adds the events of another turn. Returns whether a failure is among them.
    pub(crate) fn extend(&mut self, record: &TurnRecord) -> bool {
        let consumed = self.forget_unrecorded();
        self.turn += 1;
        self.now_ms = record.time_ms;
        let recorded = record.persisted.saturating_sub(record.known_events);
        for (position, event) in record.events.iter().enumerate() {
            self.learn(event, if position < recorded { RECORDED } else { self.turn });
        }
        for (address, data) in consumed {
            self.consume(&address, data);
        }
        record.events.iter().any(|event| event.kind == RecordedKind::Failed)
    }

    fn learn(&mut self, event: &RecordedEvent, turn: u32) {
        let moment = Moment { time_ms: event.timestamp_ms, turn };
        match &event.kind {
            RecordedKind::Scheduled { fingerprint, is_effect, header } => {
                let is_next = self.scheduled.last().is_none_or(|last| last.event_id < event.event_id);
                debug_assert!(is_next, "event {} came after a later one", event.event_id);
                self.scheduled.push(Scheduled {
                    event_id: event.event_id,
                    time_ms: event.timestamp_ms,
                    fingerprint: *fingerprint,
                    is_effect: *is_effect,
                    header: *header,
                });
            }
            RecordedKind::Succeeded => self.complete(event.source_event_id, moment, false),
            RecordedKind::Failed => self.complete(event.source_event_id, moment, true),
            RecordedKind::Event { name, data } => self.arrive(MessageKind::Event, name, *data, moment),
            RecordedKind::Queue { name, data } => self.arrive(MessageKind::Queue, name, *data, moment),
            RecordedKind::Other => {}
        }
    }

    /// Forgets what the last turn knew before it was recorded, and answers which of its messages are consumed.
    fn forget_unrecorded(&mut self) -> Vec<(Address, u64)> {
        for source in mem::take(&mut self.new_completions) {
            self.completions.remove(&source);
        }
        let mut consumed = Vec::new();
        for address in mem::take(&mut self.new_arrivals) {
            let Some(arrivals) = self.arrivals.get_mut(&address) else { continue };
            let first_new = arrivals.iter().position(|arrival| arrival.moment.turn != RECORDED);
            let new = arrivals.split_off(first_new.unwrap_or(arrivals.len()));
            consumed
                .extend(new.iter().filter(|arrival| arrival.consumed).map(|arrival| (address.clone(), arrival.data)));
        }
        consumed
    }

    fn complete(&mut self, source: Option<u64>, moment: Moment, failed: bool) {
        let Some(source) = source else { return };
        let before = self.completions.len();
        let order = self.learned;
        self.learned += 1;
        self.completions.entry(source).or_insert(ActionCompletion { moment, failed, order });
        if moment.turn != RECORDED && self.completions.len() > before {
            self.new_completions.push(source);
        }
    }

    fn arrive(&mut self, message: MessageKind, name: &str, data: u64, moment: Moment) {
        let address = (message, name.to_owned());
        if moment.turn != RECORDED {
            self.new_arrivals.push(address.clone());
        }
        let arrival = Arrival { data, moment, consumed: false };
        self.arrivals.entry(address).or_default().push_back(arrival);
    }

    fn consume(&mut self, address: &Address, data: u64) -> Option<Moment> {
        let arrivals = self.arrivals.get_mut(address)?;
        let arrival = arrivals.iter_mut().find(|arrival| !arrival.consumed && arrival.data == data)?;
        arrival.consumed = true;
        let moment = arrival.moment;
        // Or the consumption of many messages, one after the other, would cost the square of their number.
        while arrivals.front().is_some_and(|first| first.consumed && first.moment.turn == RECORDED) {
            arrivals.pop_front();
        }
        Some(moment)
    }

    /// Whether something arrived with this turn: code that runs because of it has never run before.
    pub(crate) fn is_new(&self, moment: Moment) -> bool {
        moment.turn == self.turn
    }

    /// How many actions earlier turns of this execution have recorded.
    pub(crate) fn recorded_actions(&self) -> usize {
        self.scheduled.len()
    }

    /// The action of that number, as an earlier turn has recorded it.
    pub(crate) fn scheduled(&self, action: usize) -> Option<Scheduled> {
        self.scheduled.get(action).copied()
    }

    /// The event id of an action, if an earlier turn recorded it.
    pub(crate) fn event_id(&self, action: usize) -> Option<u64> {
        self.scheduled(action).map(|scheduled| scheduled.event_id)
    }

    /// When an action was recorded; one of this turn will be recorded with the turn's time.
    pub(crate) fn recorded_at(&self, action: usize) -> u64 {
        self.scheduled(action).map_or(self.now_ms, |scheduled| scheduled.time_ms)
    }

    /// When the completion of an action was recorded.
    pub(crate) fn completed_at(&self, action: usize) -> Moment {
        self.event_id(action)
            .and_then(|event_id| self.completions.get(&event_id))
            .map_or_else(|| self.now(), |completion| completion.moment)
    }

    /// The place of an action's completion among all that this turn knows of.
    pub(crate) fn completion_order(&self, action: usize) -> Option<usize> {
        let event_id = self.event_id(action)?;
        self.completions.get(&event_id).map(|completion| completion.order)
    }

    /// The action that was recorded as this event.
    pub(crate) fn action_of(&self, event_id: u64) -> Option<usize> {
        self.scheduled.binary_search_by_key(&event_id, |scheduled| scheduled.event_id).ok()
    }

    /// Whether the completion of an action, as far as it is known in this turn, is a failure.
    pub(crate) fn will_fail(&self, action: usize) -> bool {
        self.event_id(action)
            .and_then(|event_id| self.completions.get(&event_id))
            .is_some_and(|completion| completion.failed)
    }

    /// Takes the first message of that name and payload that no wait has taken yet.
    pub(crate) fn take_arrival(&mut self, message: MessageKind, name: &str, data: &str) -> Moment {
        self.consume(&(message, name.to_owned()), hash_data(data)).unwrap_or_else(|| self.now())
    }

    /// The time of this turn, in ms since the epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn now(&self) -> Moment {
        Moment { time_ms: self.now_ms, turn: self.turn }
    }
}
