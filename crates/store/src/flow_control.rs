//! Flow control: the message gate decides which messages an instance may receive now, from the waits in its history.
//!
//! The engine drops an event that is raised before its wait, fails a turn that reads 99 messages of queues, and carries
//! at most 100 messages over to the next execution. So such messages stay in the store until the instance can take
//! them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use duroxide::providers::WorkItem;
use duroxide::{Event, EventKind};

/// How long a store keeps messages to an instance that does not exist.
pub const ORPHAN_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// How many messages of queues the engine may hold unread; well below the 99 at which it fails.
const MOST_UNREAD: usize = 90;
/// How many messages beyond that a turn may get, if the code waits for them.
const MOST_AWAITED: usize = 8;

/// The waits for one name, by the ids of the events that recorded them.
#[derive(Debug, Clone, Default)]
struct Waits {
    name: String,
    open: VecDeque<u64>,
    /// Messages that were delivered before a wait for them. Only queues keep such messages.
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
        let mut gate = Self::default();
        gate.extend(history);
        gate
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

    /// The number of waits for a message of a queue.
    fn readers(&self, queue: &str) -> usize {
        self.queues.iter().find(|waits| waits.name == queue).map_or(0, |waits| waits.open.len())
    }

    fn unread(&self) -> usize {
        self.queues.iter().map(|queue| queue.unread).sum()
    }

    /// Chooses the messages that the next turn gets. Returns their places, in order.
    ///
    /// A raised event comes only at the head of a turn. Code that ran before it in the same turn could give up the wait
    /// that is open now, and the engine would drop the event.
    pub fn choose<'a>(&self, messages: impl Iterator<Item = &'a WorkItem> + Clone) -> Vec<usize> {
        let carried = messages.clone().find_map(|message| match message {
            WorkItem::ContinueAsNew { carry_forward_events, .. } => Some(carry_forward_events.len()),
            _ => None,
        });
        // The waits of this execution do not count for the next one.
        let unread = carried.unwrap_or_else(|| self.unread());
        let mut room = MOST_UNREAD.saturating_sub(unread);
        let mut readers: HashMap<&str, usize> = HashMap::new();
        let mut awaited_room = MOST_AWAITED;
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
                    // A full queue without waits must not keep the messages of another queue from its waits.
                    let has_room = if *readers > 0 && awaited_room > 0 {
                        *readers -= 1;
                        awaited_room -= 1;
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
    fn an_event_without_a_wait_stays_in_the_store() {
        let gate = MessageGate::of(&[waits(2, "other")]);

        assert_eq!(gate.choose([raised("early"), timer()].iter()), [1]);
    }

    #[test]
    fn each_wait_gets_an_event_once() {
        let received = EventKind::ExternalEvent { name: "go".to_owned(), data: String::new() };
        let mut gate = MessageGate::of(&[waits(2, "go")]);
        assert_eq!(gate.choose([raised("go")].iter()), [0]);

        gate.extend(&[event(3, None, received)]);

        assert!(gate.choose([raised("go")].iter()).is_empty());
    }

    #[test]
    fn an_event_comes_only_at_the_head_of_a_turn() {
        let gate = MessageGate::of(&[waits(2, "go")]);

        assert_eq!(gate.choose([timer(), raised("go"), timer()].iter()), [0]);
        assert_eq!(gate.choose([raised("go"), timer()].iter()), [0, 1]);
    }

    #[test]
    fn a_wait_that_was_given_up_gets_no_event() {
        let given_up = EventKind::ExternalSubscribedCancelled { reason: String::new() };
        let gate = MessageGate::of(&[waits(2, "go"), event(3, Some(2), given_up)]);

        assert!(gate.choose([raised("go")].iter()).is_empty());
    }

    #[test]
    fn a_turn_gets_at_most_ninety_messages_without_a_wait() {
        let messages: Vec<_> = (0..120).map(|_| message("inbox")).collect();
        let delivered = EventKind::QueueEventDelivered { name: "inbox".to_owned(), data: String::new() };
        let read = EventKind::QueueSubscribed { name: "inbox".to_owned() };
        let mut gate = MessageGate::default();
        assert_eq!(gate.choose(messages.iter()).len(), 90);

        gate.extend(&(0..90).map(|id| event(id, None, delivered.clone())).collect::<Vec<_>>());
        assert!(gate.choose(messages.iter()).is_empty());

        gate.extend(&[event(91, None, read.clone()), event(92, None, read)]);
        assert_eq!(gate.choose(messages.iter()).len(), 2);
    }

    #[test]
    fn a_full_queue_does_not_block_the_waits_of_another_queue() {
        let delivered = EventKind::QueueEventDelivered { name: "full".to_owned(), data: String::new() };
        let read = EventKind::QueueSubscribed { name: "other".to_owned() };
        let mut gate = MessageGate::of(&(0..90).map(|id| event(id, None, delivered.clone())).collect::<Vec<_>>());

        gate.extend(&[event(91, None, read)]);

        assert_eq!(gate.choose([message("full"), message("other"), message("other")].iter()), [1]);
    }
}
