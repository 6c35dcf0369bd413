//! Completes leases whose messages did not come with them: the server sends only the ids of messages that are held back,
//! if there are many.
//!
//! The holder of a lease is the only one that changes these messages. So the node may read them after the lease, and may
//! remember them from an earlier lease. A lease whose messages cannot be read is given back: a turn that lacks some of
//! them would let a later message overtake them.

use std::collections::HashMap;

use crate::error::Result;
use crate::postgres::errors::failed;
use crate::postgres::fetch::lease::LeaseRow;
use crate::postgres::node::held_turns::LeasedMessage;
use crate::postgres::node::known_messages::{HeldList, KnownMessage};
use crate::postgres::node::state::NodeState;

/// Adds the messages of its list to a lease, if this node knows them all. Returns whether the lease is complete.
pub fn complete(core: &NodeState, lease: &mut LeaseRow) -> bool {
    let Some(list) = lease.held.take() else { return true };
    let known = known(core, lease, &list);
    if known.len() < list.ids.len() {
        lease.held = Some(list);
        return false;
    }
    add(lease, &list, &known);
    true
}

fn known(core: &NodeState, lease: &LeaseRow, list: &HeldList) -> HashMap<i64, KnownMessage> {
    lease.created_us.map(|created_us| core.known_messages.get(&lease.instance, created_us, list)).unwrap_or_default()
}

/// Reads the messages that this node does not know, and completes the leases.
pub async fn read<'a>(core: &NodeState, leases: impl Iterator<Item = &'a mut LeaseRow>) -> Result<()> {
    let mut lists = Vec::new();
    let mut missing = Vec::new();
    for lease in leases {
        let Some(list) = lease.held.take() else { continue };
        let known = known(core, lease, &list);
        missing.extend(list.ids.iter().filter(|id| !known.contains_key(id)));
        lists.push((lease, list, known));
    }
    let mut texts = texts(core, &missing).await?;
    for (lease, list, mut known) in lists {
        let unknown: Vec<i64> = list.ids.iter().copied().filter(|id| !known.contains_key(id)).collect();
        for id in unknown {
            // A message that has gone by now was deleted with its instance.
            let message = texts.remove(&id).and_then(|text| lease.parse(id, &text));
            known.extend(message.map(|message| (id, message)));
        }
        add(lease, &list, &known);
        if let Some(created_us) = lease.created_us {
            core.known_messages.put(&lease.instance, created_us, list.mark, known);
        }
    }
    Ok(())
}

async fn texts(core: &NodeState, ids: &[i64]) -> Result<HashMap<i64, String>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = format!("SELECT id, work_item FROM \"{}\".orchestrator_queue WHERE id = ANY ($1)", core.schema);
    let query = sqlx::query_as::<_, (i64, String)>(&statement).bind(ids);
    let read = async { query.fetch_all(&core.pool).await.map_err(|error| failed("read", &error)) };
    Ok(core.moves.answer("read", read).await?.into_iter().collect())
}

/// Adds the messages in the order in which they were sent.
fn add(lease: &mut LeaseRow, list: &HeldList, known: &HashMap<i64, KnownMessage>) {
    let messages = list.ids.iter().filter_map(|id| {
        let (item, _) = known.get(id)?;
        Some(LeasedMessage { id: *id, item: item.clone(), attempts: 0, is_held_back: true, age_ms: 0 })
    });
    lease.messages.extend(messages);
    lease.messages.sort_by_key(|message| message.id);
}
