//! What the code of an instance is ready to be told, counted from its history.
//!
//! The engine drops an event that is raised before its wait, fails a turn that reads 99 messages of queues, and carries at most
//! 100 over to the next execution. So such messages stay in the store until they can be taken.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use duroxide::providers::WorkItem;
use duroxide::{Event, EventKind};

/// How long a store keeps messages to an instance that does not exist.
pub const ORPHANS_LIFE: Duration = Duration::from_secs(10 * 60);
/// Messages of queues that may lie unread with the engine; well below the 99 at which it gives up.
const UNREAD: usize = 90;
/// Messages that somebody waits for, given beyond that in one turn.
const SPARE: usize = 8;

/// The waits for one name, by the ids of the events that recorded them.
#[derive(Debug, Clone, Default)]
struct Waits {
    name: String,
    open: VecDeque<u64>,
    /// Delivered before anybody waited for it: queues alone keep such.
    unread: usize,
}

/// The waits and messages of one execution.
#[derive(Debug, Clone, Default)]
pub struct MessageGate {
    events: Vec<Waits>,
    queues: Vec<Waits>,
}

fn named<'a>(waits: &'a mut Vec<Waits>, name: &str) -> &'a mut Waits {
    let position = waits.iter().position(|waits| waits.name == name).unwrap_or_else(|| {
        waits.push(Waits { name: name.to_owned(), ..Waits::default() });
        waits.len() - 1
    });
    &mut waits[position]
}

fn close(waits: &mut [Waits], source: Option<u64>) {
    if let Some(source) = source {
        for waits in waits {
            waits.open.retain(|id| *id != source);
        }
    }
}

impl MessageGate {
    pub fn of(history: &[Event]) -> Self {
        let mut mail = Self::default();
        mail.extend(history);
        mail
    }

    pub fn extend(&mut self, events: &[Event]) {
        for event in events {
            match &event.kind {
                EventKind::ExternalSubscribed { name } => named(&mut self.events, name).open.push_back(event.event_id),
                EventKind::ExternalEvent { name, .. } => {
                    named(&mut self.events, name).open.pop_front();
                }
                EventKind::ExternalSubscribedCancelled { .. } => close(&mut self.events, event.source_event_id),
                EventKind::QueueSubscribed { name } => {
                    let queue = named(&mut self.queues, name);
                    match queue.unread.checked_sub(1) {
                        Some(unread) => queue.unread = unread,
                        None => queue.open.push_back(event.event_id),
                    }
                }
                EventKind::QueueEventDelivered { name, .. } => {
                    let queue = named(&mut self.queues, name);
                    if queue.open.pop_front().is_none() {
                        queue.unread += 1;
                    }
                }
                EventKind::QueueSubscriptionCancelled { .. } => close(&mut self.queues, event.source_event_id),
                _ => {}
            }
        }
    }

    fn is_awaited(&self, event: &str) -> bool {
        self.events.iter().any(|waits| waits.name == event && !waits.open.is_empty())
    }

    /// Who waits for a message of a queue.
    fn readers(&self, queue: &str) -> usize {
        self.queues.iter().find(|waits| waits.name == queue).map_or(0, |waits| waits.open.len())
    }

    fn unread(&self) -> usize {
        self.queues.iter().map(|queue| queue.unread).sum()
    }

    /// Which of the waiting messages the next turn is given, by their places, in order.
    ///
    /// An event that is raised goes into a turn of its own, or at its head: what the turn does before could give up the wait
    /// that is open now, and the event would be lost.
    pub fn choose<'a>(&self, messages: impl Iterator<Item = &'a WorkItem> + Clone) -> Vec<usize> {
        let carried = messages.clone().find_map(|message| match message {
            WorkItem::ContinueAsNew { carry_forward_events, .. } => Some(carry_forward_events.len()),
            _ => None,
        });
        // The next execution knows no wait of this one.
        let unread = carried.unwrap_or_else(|| self.unread());
        let mut room = UNREAD.saturating_sub(unread);
        let mut readers: HashMap<&str, usize> = HashMap::new();
        let mut spare = SPARE;
        let mut chosen = Vec::new();
        for (place, message) in messages.enumerate() {
            match message {
                WorkItem::ExternalRaised { name, .. } => {
                    if carried.is_none() && self.is_awaited(name) {
                        if !chosen.is_empty() {
                            break;
                        }
                        chosen.push(place);
                    }
                }
                WorkItem::QueueMessage { name, .. } => {
                    let readers =
                        readers.entry(name).or_insert_with(|| if carried.is_some() { 0 } else { self.readers(name) });
                    // A full queue that nobody reads does not keep another from its readers.
                    let has_room = if *readers > 0 && spare > 0 {
                        *readers -= 1;
                        spare -= 1;
                        true
                    } else {
                        let has_room = room > 0;
                        room = room.saturating_sub(1);
                        has_room
                    };
                    if has_room {
                        chosen.push(place);
                    }
                }
                _ => chosen.push(place),
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: u64, source: Option<u64>, kind: EventKind) -> Event {
        Event::with_event_id(id, "instance", 1, source, kind)
    }

    fn raised(name: &str) -> WorkItem {
        WorkItem::ExternalRaised { instance: "instance".to_owned(), name: name.to_owned(), data: String::new() }
    }

    fn message(name: &str) -> WorkItem {
        WorkItem::QueueMessage { instance: "instance".to_owned(), name: name.to_owned(), data: String::new() }
    }

    fn timer() -> WorkItem {
        WorkItem::TimerFired { instance: "instance".to_owned(), execution_id: 1, id: 9, fire_at_ms: 0 }
    }

    fn waits(id: u64, name: &str) -> Event {
        event(id, None, EventKind::ExternalSubscribed { name: name.to_owned() })
    }

    #[test]
    fn an_event_that_nobody_waits_for_stays() {
        let mail = MessageGate::of(&[waits(2, "other")]);

        assert_eq!(mail.choose([raised("early"), timer()].iter()), [1]);
    }

    #[test]
    fn an_event_is_given_to_each_wait_once() {
        let received = EventKind::ExternalEvent { name: "go".to_owned(), data: String::new() };
        let mut mail = MessageGate::of(&[waits(2, "go")]);
        assert_eq!(mail.choose([raised("go")].iter()), [0]);

        mail.extend(&[event(3, None, received)]);

        assert!(mail.choose([raised("go")].iter()).is_empty());
    }

    #[test]
    fn an_event_waits_for_the_end_of_the_turn_that_may_give_up_its_wait() {
        let mail = MessageGate::of(&[waits(2, "go")]);

        assert_eq!(mail.choose([timer(), raised("go"), timer()].iter()), [0]);
        assert_eq!(mail.choose([raised("go"), timer()].iter()), [0, 1]);
    }

    #[test]
    fn a_wait_that_was_given_up_takes_no_event() {
        let given_up = EventKind::ExternalSubscribedCancelled { reason: String::new() };
        let mail = MessageGate::of(&[waits(2, "go"), event(3, Some(2), given_up)]);

        assert!(mail.choose([raised("go")].iter()).is_empty());
    }

    #[test]
    fn ninety_messages_are_given_at_most() {
        let messages: Vec<_> = (0..120).map(|_| message("inbox")).collect();
        let delivered = EventKind::QueueEventDelivered { name: "inbox".to_owned(), data: String::new() };
        let read = EventKind::QueueSubscribed { name: "inbox".to_owned() };
        let mut mail = MessageGate::default();
        assert_eq!(mail.choose(messages.iter()).len(), 90);

        mail.extend(&(0..90).map(|id| event(id, None, delivered.clone())).collect::<Vec<_>>());
        assert!(mail.choose(messages.iter()).is_empty());

        mail.extend(&[event(91, None, read.clone()), event(92, None, read)]);
        assert_eq!(mail.choose(messages.iter()).len(), 2);
    }

    #[test]
    fn a_full_queue_does_not_keep_another_from_its_readers() {
        let delivered = EventKind::QueueEventDelivered { name: "full".to_owned(), data: String::new() };
        let read = EventKind::QueueSubscribed { name: "other".to_owned() };
        let mut mail = MessageGate::of(&(0..90).map(|id| event(id, None, delivered.clone())).collect::<Vec<_>>());

        mail.extend(&[event(91, None, read)]);

        assert_eq!(mail.choose([message("full"), message("other"), message("other")].iter()), [1]);
    }
}
