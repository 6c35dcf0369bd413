//! Eager leases: a commit leases the work to this node that fetches of this node wait for.

use std::collections::HashMap;
use std::sync::Arc;

use duroxide::providers::WorkItem;

use crate::postgres::node::cancelled_activities::Cancelled;
use crate::postgres::node::leases_in_flight::LeaseInFlight;
use crate::postgres::node::state::{ActivityPrefetchQueue, NodeState, TurnPrefetchQueue};
use crate::postgres::write::batch::Batch;
use crate::work_item::takes_tag;

/// The leases that a commit shall grant to this node.
#[derive(Default)]
pub struct EagerLeases {
    /// The queue for the leased turns.
    pub queue: Option<Arc<TurnPrefetchQueue>>,
    pub targets: Vec<String>,
    /// Whether the batch has more targets than this node can use.
    pub leaves_turns: bool,
    /// The activities to lease and their queues, by token.
    pub activities: HashMap<String, (Arc<ActivityPrefetchQueue>, WorkItem)>,
    pub leaves_activities: bool,
    /// Set while any of the leases may arrive.
    pub lease_in_flight: Option<LeaseInFlight>,
}

/// Chooses the work that the commit leases to this node: as much as its fetches wait for.
pub fn choose(core: &Arc<NodeState>, batch: &mut Batch) -> EagerLeases {
    let mut eager = EagerLeases::default();
    batch.activities.tokens.iter_mut().for_each(|token| *token = None);
    // Register the lease before reading the demand. A runtime that ends lowers the demand, and then waits for the
    // registered leases.
    let lease_in_flight = core.leases_in_flight.add();
    let ahead = core.ahead();
    let queues = core.turn_queues();
    let queue = queues.into_iter().map(|queue| (queue.demand(ahead), queue)).max_by_key(|(demand, _)| *demand);
    if let Some((demand, queue)) = queue {
        let targets = batch.targets.keys().filter(|target| !core.left_to_others.has_left(target));
        eager.targets = targets.take(demand).cloned().collect();
        eager.queue = Some(queue);
    }
    eager.leaves_turns = eager.targets.len() < batch.targets.len();
    let mut queues: Vec<_> = core.activity_queues().into_iter().map(|queue| (queue.demand(ahead), queue)).collect();
    let scheduled = &mut batch.activities;
    for place in 0..scheduled.items.len() {
        match core.cancelled.state(&scheduled.items[place]) {
            // The turn that schedules the activity cancels it, too.
            Some(Cancelled::Committing) => continue,
            Some(Cancelled::Gone) => core.cancelled.forget(&scheduled.items[place]),
            None => {}
        }
        let tag = scheduled.tags[place].as_deref();
        let queue = queues.iter_mut().find(|(demand, queue)| *demand > 0 && takes_tag(&queue.key, tag));
        match queue {
            Some((demand, queue)) if scheduled.sessions[place].is_none() => {
                *demand -= 1;
                let token = core.token();
                scheduled.tokens[place] = Some(token.clone());
                eager.activities.insert(token, (Arc::clone(queue), scheduled.items[place].clone()));
            }
            _ => eager.leaves_activities = true,
        }
    }
    let takes_some = !(eager.targets.is_empty() && eager.activities.is_empty());
    eager.lease_in_flight = takes_some.then_some(lease_in_flight);
    eager
}
