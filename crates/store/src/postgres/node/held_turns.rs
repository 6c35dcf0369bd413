//! Turns that this node holds the lease of: what they read, and what was held back from them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use duroxide::Event;
use duroxide::providers::{OrchestrationItem, WorkItem};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock::{milliseconds, now_ms, span_ms};
use crate::flow_control::MessageGate;

/// A turn as the engine is given it.
pub struct LeasedTurn {
    pub item: OrchestrationItem,
    pub token: String,
    pub attempt: u32,
}

/// A message in the queue of an instance.
#[derive(Debug, Clone)]
pub struct LeasedMessage {
    pub id: i64,
    pub item: WorkItem,
    /// How often it was tried.
    pub attempts: i32,
    /// Whether it is out of sight since nobody waits for it yet.
    pub is_held_back: bool,
    /// When it was sent, in milliseconds since the epoch.
    pub sent_ms: i64,
}

/// What the lease of a turn stands for.
pub struct NodeTurn {
    pub instance: String,
    pub execution: i64,
    /// When the instance was created, in microseconds; `None` if it is not there yet.
    pub created_us: Option<i64>,
    /// How many events it ran on.
    pub length: usize,
    /// The rows of the messages that it was given.
    pub read: Vec<i64>,
    /// What it was not given, and what its code was ready to be told.
    pub kept_back: Option<(MessageGate, Vec<LeasedMessage>)>,
    /// When it was leased, by both clocks of this node.
    pub leased: (u64, Instant),
    /// Where there is no such instance, for how many milliseconds its messages go out of sight.
    pub orphaned_ms: Option<i64>,
}

/// How long what nobody waits for stays out of sight. Our nodes show it as soon as somebody does; this is for the others.
const OUT_OF_SIGHT: Duration = Duration::from_secs(60);

impl NodeTurn {
    /// A turn, leased now, that has read nothing yet of an instance that may not be there.
    pub fn of(instance: String) -> Self {
        Self {
            instance,
            execution: 0,
            created_us: None,
            length: 0,
            read: Vec::new(),
            kept_back: None,
            leased: (now_ms(), Instant::now()),
            orphaned_ms: None,
        }
    }

    /// The time that the turn's own times are reckoned from, in milliseconds since the epoch: however long the turn takes and is
    /// tried to be committed, a clock that is set meanwhile moves none of its timers.
    pub fn now_ms(&self) -> u64 {
        let (wall_ms, since) = self.leased;
        wall_ms.saturating_add(milliseconds(since.elapsed()))
    }

    /// For what was kept back, how many milliseconds each is to stay out of sight after the turn: 0 shows it. What is as it
    /// should be is not listed.
    pub fn sight_after(&self, delta: &[Event]) -> Vec<(i64, i64)> {
        let Some((mail, messages)) = &self.kept_back else { return Vec::new() };
        if let Some(pause_ms) = self.orphaned_ms {
            return messages.iter().map(|message| (message.id, pause_ms)).collect();
        }
        let mut mail = mail.clone();
        mail.extend(delta);
        let chosen = mail.choose(messages.iter().map(|message| &message.item));
        let each = messages.iter().enumerate().filter_map(|(place, message)| {
            match (chosen.contains(&place), message.is_held_back) {
                (true, true) => Some((message.id, 0)),
                (false, false) => Some((message.id, span_ms(OUT_OF_SIGHT))),
                (true, false) | (false, true) => None,
            }
        });
        each.collect()
    }

    pub fn kept_ids(&self) -> impl Iterator<Item = i64> {
        self.kept_back.iter().flat_map(|(_, messages)| messages.iter().map(|message| message.id))
    }
}

#[derive(Default)]
struct TurnTable {
    turns: HashMap<String, Arc<NodeTurn>>,
    /// The instances of these turns; whether something came that their end may not see.
    instances: HashMap<String, bool>,
}

/// The turns that are held, by the tokens of their leases.
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

    /// Lets a turn go; whether something came for its instance meanwhile.
    pub fn remove(&self, token: &str) -> bool {
        let mut table = self.0.lock();
        let Some(turn) = table.turns.remove(token) else { return false };
        table.instances.remove(&turn.instance).unwrap_or_default()
    }

    /// Something came for an instance; whether a turn of it is held, whose end will tell.
    pub fn came(&self, instance: &str) -> bool {
        let mut table = self.0.lock();
        table.instances.get_mut(instance).map(|came| *came = true).is_some()
    }
}
