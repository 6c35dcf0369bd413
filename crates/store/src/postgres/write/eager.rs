//! What a node takes with a commit: what somebody here waits for.

use std::collections::HashMap;
use std::sync::Arc;

use duroxide::providers::WorkItem;

use crate::postgres::node::cancelled_activities::Cancelled;
use crate::postgres::node::state::{ActivityQueue, LeaseInFlight, NodeState, TurnQueue};
use crate::postgres::write::batch::Batch;
use crate::work_item::takes_tag;

/// What was meant to be taken with it.
#[derive(Default)]
pub struct EagerLeases {
    pub lane: Option<Arc<TurnQueue>>,
    pub targets: Vec<String>,
    /// Whether there were more targets than anybody waits for.
    pub leaves_turns: bool,
    /// The lanes of the activities that were to be leased, by token.
    pub activities: HashMap<String, (Arc<ActivityQueue>, WorkItem)>,
    pub leaves_activities: bool,
    /// While any of it may come.
    pub leasing: Option<LeaseInFlight>,
}

/// Chooses what this node takes with the commit: what somebody here waits for.
pub fn choose(core: &Arc<NodeState>, batch: &mut Batch) -> EagerLeases {
    let mut taking = EagerLeases::default();
    batch.activities.tokens.iter_mut().for_each(|token| *token = None);
    // Before it is asked how much is wanted: a runtime that ends makes that less, and waits for what is on its way then.
    let leasing = core.leasing();
    let ahead = core.ahead();
    let lanes = core.turn_lanes();
    let lane = lanes.into_iter().map(|lane| (lane.demand(ahead), lane)).max_by_key(|(demand, _)| *demand);
    if let Some((demand, lane)) = lane {
        let targets = batch.targets.keys().filter(|target| !core.left.has_left(target));
        taking.targets = targets.take(demand).cloned().collect();
        taking.lane = Some(lane);
    }
    taking.leaves_turns = taking.targets.len() < batch.targets.len();
    let mut lanes: Vec<_> = core.activity_lanes().into_iter().map(|lane| (lane.demand(ahead), lane)).collect();
    let scheduled = &mut batch.activities;
    for place in 0..scheduled.items.len() {
        match core.cancelled.state(&scheduled.items[place]) {
            // By the turn that schedules it.
            Some(Cancelled::Committing) => continue,
            Some(Cancelled::Gone) => core.cancelled.forget(&scheduled.items[place]),
            None => {}
        }
        let tag = scheduled.tags[place].as_deref();
        let lane = lanes.iter_mut().find(|(demand, lane)| *demand > 0 && takes_tag(&lane.key, tag));
        match lane {
            Some((demand, lane)) if scheduled.sessions[place].is_none() => {
                *demand -= 1;
                let token = core.token();
                scheduled.tokens[place] = Some(token.clone());
                taking.activities.insert(token, (Arc::clone(lane), scheduled.items[place].clone()));
            }
            _ => taking.leaves_activities = true,
        }
    }
    let takes_some = !(taking.targets.is_empty() && taking.activities.is_empty());
    taking.leasing = takes_some.then_some(leasing);
    taking
}
