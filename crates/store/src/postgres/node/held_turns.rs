//! The turns whose leases this node holds: the messages that each turn has read, and the messages that were held back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use duroxide::Event;
use duroxide::providers::{OrchestrationItem, WorkItem};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock::{milliseconds, now_ms, span_ms};
use crate::flow_control::MessageGate;

/// A turn as the engine gets it.
pub struct LeasedTurn {
    pub item: OrchestrationItem,
    pub token: String,
    pub attempt: u32,
}

/// A message in the queue of an instance.
#[derive(Debug, Clone)]
pub struct LeasedMessage {
    pub id: i64,
    pub item: Arc<WorkItem>,
    /// How often a turn has tried the message.
    pub attempts: i32,
    /// Whether the message is invisible, since its instance does not wait for it yet.
    pub is_held_back: bool,
    /// How long ago the message was sent, in milliseconds by the server's clock.
    pub age_ms: i64,
}

/// A turn whose lease this node holds.
pub struct NodeTurn {
    pub instance: String,
    pub execution: i64,
    /// When the instance was created, in microseconds since the epoch; `None` if it does not exist yet.
    pub created_us: Option<i64>,
    /// The length of the history that the turn runs on.
    pub length: usize,
    /// The rows of the messages that the turn got.
    pub read: Vec<i64>,
    /// The messages that the turn did not get, and the gate that held them back.
    pub held_back: Option<(MessageGate, Vec<LeasedMessage>)>,
    /// When the turn was leased, by the wall clock and by the monotonic clock of this node.
    pub leased: (u64, Instant),
    /// If the instance does not exist: for how many milliseconds its messages become invisible.
    pub orphan_pause_ms: Option<i64>,
}

/// How long a message is invisible that its instance does not wait for. Our nodes make it visible as soon as the
/// instance waits for it; the time limit is for nodes of other languages.
const HOLD_TIME: Duration = Duration::from_secs(60);

impl NodeTurn {
    /// A turn that is leased now and has read nothing yet. Its instance may not exist.
    pub fn of(instance: String) -> Self {
        Self {
            instance,
            execution: 0,
            created_us: None,
            length: 0,
            read: Vec::new(),
            held_back: None,
            leased: (now_ms(), Instant::now()),
            orphan_pause_ms: None,
        }
    }

    /// The present time as this turn sees it, in milliseconds since the epoch. It counts from the time of the lease by
    /// the monotonic clock, so that setting the wall clock moves no timer of the turn, however long its commit takes.
    pub fn now_ms(&self) -> u64 {
        let (wall_ms, since) = self.leased;
        wall_ms.saturating_add(milliseconds(since.elapsed()))
    }

    /// Returns, for each held message whose visibility must change, the delay in milliseconds after this turn. The
    /// delay 0 makes the message visible now.
    pub fn visibility_changes(&self, delta: &[Event]) -> Vec<(i64, i64)> {
        let Some((gate, messages)) = &self.held_back else { return Vec::new() };
        if let Some(pause_ms) = self.orphan_pause_ms {
            return messages.iter().map(|message| (message.id, pause_ms)).collect();
        }
        let mut gate = gate.clone();
        gate.extend(delta);
        let chosen = gate.choose(messages.iter().map(|message| &*message.item));
        let each = messages.iter().enumerate().filter_map(|(place, message)| {
            match (chosen.contains(&place), message.is_held_back) {
                (true, true) => Some((message.id, 0)),
                (false, false) => Some((message.id, span_ms(HOLD_TIME))),
                (true, false) | (false, true) => None,
            }
        });
        each.collect()
    }

    pub fn held_back_ids(&self) -> impl Iterator<Item = i64> {
        self.held_back.iter().flat_map(|(_, messages)| messages.iter().map(|message| message.id))
    }
}

#[derive(Default)]
struct TurnTable {
    turns: HashMap<String, Arc<NodeTurn>>,
    /// The instances of these turns, and whether a message arrived that the commit of the turn may not see.
    instances: HashMap<String, bool>,
}

/// The held turns, by the tokens of their leases.
#[derive(Default)]
pub struct NodeTurns(Mutex<TurnTable>);

impl NodeTurns {
    pub fn insert(&self, token: &str, turn: NodeTurn) -> Arc<NodeTurn> {
        let turn = Arc::new(turn);
        let mut table = self.0.lock();
        table.instances.insert(turn.instance.clone(), false);
        table.turns.insert(token.to_owned(), Arc::clone(&turn));
        turn
    }

    pub fn get(&self, token: &str) -> Option<Arc<NodeTurn>> {
        self.0.lock().turns.get(token).cloned()
    }

    /// Removes a turn. Returns whether a message arrived for its instance while the node held the turn.
    pub fn remove(&self, token: &str) -> bool {
        let mut table = self.0.lock();
        let Some(turn) = table.turns.remove(token) else { return false };
        table.instances.remove(&turn.instance).unwrap_or_default()
    }

    /// Notes that a message arrived for an instance. Returns whether this node holds a turn of it; then
    /// [`Self::remove`] reports the message.
    pub fn note_arrival(&self, instance: &str) -> bool {
        let mut table = self.0.lock();
        table.instances.get_mut(instance).map(|has_arrived| *has_arrived = true).is_some()
    }
}
