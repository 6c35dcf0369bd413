//! Makes turns and activities of granted leases, and offers them to the fetches that wait for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use duroxide::providers::{OrchestrationItem, WorkItem};
use duroxide::{Event, EventKind, INITIAL_EXECUTION_ID};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::flow_control::MessageGate;
use crate::history::ended;
use crate::postgres::errors::failed;
use crate::postgres::fetch::held_list;
use crate::postgres::fetch::lease::LeaseRow;
use crate::postgres::fetch::orphaned::{end_without_running, hold_orphans};
use crate::postgres::fetch::rows;
use crate::postgres::fetch::rows::AnswerRow;
use crate::postgres::node::held_turns::{LeasedMessage, LeasedTurn, NodeTurn};
use crate::postgres::node::history_cache::HistoryEntry;
use crate::postgres::node::state::{ActivityPrefetchQueue, LeasedActivity, NodeState, TurnPrefetchQueue};

/// Delivers leased turns: at once if the history and the messages are in the caches, and otherwise when the node has read
/// them.
pub fn deliver(core: &Arc<NodeState>, queue: &Arc<TurnPrefetchQueue>, leases: Vec<LeaseRow>) {
    let mut unread = Vec::new();
    for mut lease in leases {
        let is_complete = held_list::complete(core, &mut lease);
        let LeaseRow { instance, created_us, execution, last_event, .. } = &lease;
        match (created_us, execution, last_event) {
            (Some(created_us), Some(execution), Some(last_event)) => {
                let cached = core.histories.get(instance, *created_us, *execution);
                match cached {
                    Some((events, _)) if last(&events) == *last_event && is_complete => {
                        offer_turn(core, queue, lease, Ok(events));
                    }
                    cached => unread.push((lease, cached)),
                }
            }
            (Some(_), Some(_), None) if is_complete => offer_turn(core, queue, lease, Ok(Vec::new())),
            // The instance is about to begin.
            (None, _, None) if lease.messages.iter().any(starts) => offer_turn(core, queue, lease, Ok(Vec::new())),
            _ => unread.push((lease, None)),
        }
    }
    if !unread.is_empty() {
        core.reading.send_modify(|reading| *reading += 1);
        let (core, queue, count) = (Arc::clone(core), Arc::clone(queue), unread.len());
        queue.expect(count);
        tokio::spawn(async move {
            read_and_offer(&core, &queue, unread).await;
            queue.expect_no_more(count);
            core.wanted.notify_one();
            core.reading.send_modify(|reading| *reading -= 1);
        });
    }
}

fn last(events: &[Event]) -> i64 {
    events.last().map_or(0, |event| i64::try_from(event.event_id()).unwrap_or(i64::MAX))
}

/// The events of a cached history, and their size as JSON.
type CachedHistory = Option<(Vec<Event>, usize)>;

/// Reads the missing messages and the missing parts of the histories, and offers the turns. If the server does not answer,
/// the node gives the leases back, or they end by themselves.
async fn read_and_offer(core: &Arc<NodeState>, queue: &TurnPrefetchQueue, mut unread: Vec<(LeaseRow, CachedHistory)>) {
    let moves = core.moves.count();
    if let Err(error) = held_list::read(core, unread.iter_mut().map(|(lease, _)| lease)).await {
        tracing::debug!(target: "duroxide::store", "messages could not be read: {error}");
        return give_back(core, unread).await;
    }
    let wanted = unread.iter().enumerate();
    let (mut places, mut instances, mut executions, mut after) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (place, (lease, cached)) in wanted {
        let is_prefix = cached.as_ref().filter(|(events, _)| Some(last(events)) <= lease.last_event);
        places.push(i32::try_from(place).unwrap_or(i32::MAX));
        instances.push(lease.instance.clone());
        executions.push(lease.execution);
        after.push(is_prefix.map_or(0, |(events, _)| last(events)));
    }
    let statement = format!(
        "SELECT wanted.place, h.event_data, h.execution_id \
         FROM unnest($1::int[], $2::text[], $3::bigint[], $4::bigint[]) \
         AS wanted (place, instance, execution, after), LATERAL (SELECT * FROM \"{}\".history h WHERE \
         h.instance_id = wanted.instance AND (wanted.execution IS NULL OR h.execution_id = wanted.execution) \
         AND h.event_id > wanted.after ORDER BY h.execution_id, h.event_id OFFSET 0) AS h",
        core.schema
    );
    let query = sqlx::query(&statement).bind(&places).bind(&instances).bind(&executions).bind(&after);
    let read = async { query.fetch_all(&core.pool).await.map_err(|error| failed("read", &error)) };
    let found = match core.moves.answer("read", read).await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(target: "duroxide::store", "histories could not be read: {error}");
            return give_back(core, unread).await;
        }
    };
    let mut texts: HashMap<i32, Vec<(String, i64)>> = HashMap::new();
    for row in &found {
        if let (Ok(place), Ok(text), Ok(execution)) = (row.try_get(0), row.try_get(1), row.try_get(2)) {
            texts.entry(place).or_default().push((text, execution));
        }
    }
    for (place, ((mut lease, cached), from)) in unread.into_iter().zip(after).enumerate() {
        let texts = texts.remove(&i32::try_from(place).unwrap_or(i32::MAX)).unwrap_or_default();
        let (mut events, mut bytes) = cached.filter(|_| from > 0).unwrap_or_default();
        let mut error = None;
        for (text, execution) in texts {
            match serde_json::from_str::<Event>(&text) {
                Ok(event) => {
                    bytes += text.len();
                    events.push(event);
                }
                Err(unreadable) => error = Some(unreadable.to_string()),
            }
            if lease.created_us.is_none() {
                lease.execution.get_or_insert(execution);
            }
        }
        if let Some(error) = error {
            offer_turn(core, queue, lease, Err(format!("Failed to deserialize event: {error}")));
            continue;
        }
        if let (Some(created_us), Some(execution)) = (lease.created_us, lease.execution) {
            let history = HistoryEntry { created_us, execution, events: events.clone(), bytes };
            core.histories.put(&lease.instance, history);
        }
        offer_turn(core, queue, lease, Ok(events));
    }
    core.forget_histories_of(moves);
}

async fn give_back(core: &Arc<NodeState>, unread: Vec<(LeaseRow, CachedHistory)>) {
    for (lease, _) in unread {
        core.held.insert(&lease.token, NodeTurn::of(lease.instance));
        let _ = core.give_back_turn(&lease.token, None, false).await;
    }
}

fn starts(message: &LeasedMessage) -> bool {
    matches!(*message.item, WorkItem::StartOrchestration { .. })
}

fn begins(message: &LeasedMessage) -> bool {
    matches!(*message.item, WorkItem::StartOrchestration { .. } | WorkItem::ContinueAsNew { .. })
}

/// Makes a turn of a lease, with the messages that its instance can take now, and offers it to the queue.
fn offer_turn(
    core: &Arc<NodeState>,
    queue: &TurnPrefetchQueue,
    mut lease: LeaseRow,
    history: Result<Vec<Event>, String>,
) {
    let (history, history_error) = match history {
        Ok(history) => (history, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    // An instance whose start is not due has no history, also if it has run before.
    let exists = !history.is_empty() || history_error.is_some();
    if !exists && !lease.messages.iter().any(begins) {
        hold_orphans(core, lease);
        return;
    }
    if history.is_empty() {
        // The start comes before all other messages.
        lease.messages.sort_by_key(|message| !starts(message));
    }
    let mut chosen = std::mem::take(&mut lease.messages);
    let mut held_back = None;
    if core.policy.gate_messages && !ended(&history) && history_error.is_none() {
        let gate = MessageGate::of(&history);
        let places = gate.choose(chosen.iter().map(|message| &*message.item));
        if places.len() < chosen.len() {
            let mut rest = Vec::with_capacity(chosen.len() - places.len());
            let mut taken = Vec::with_capacity(places.len());
            for (place, message) in chosen.into_iter().enumerate() {
                if places.contains(&place) { taken.push(message) } else { rest.push(message) }
            }
            chosen = taken;
            held_back = Some((gate, rest));
        }
    }
    let attempt = chosen.iter().map(|message| message.attempts).max().unwrap_or(0).saturating_add(1);
    let read = chosen.iter().map(|message| message.id).chain(lease.unreadable).collect();
    let messages: Vec<WorkItem> = chosen.into_iter().map(|message| Arc::unwrap_or_clone(message.item)).collect();
    let (name, version, execution) = identity(lease.name, lease.version, lease.execution, &history, &messages);
    let held = NodeTurn {
        execution,
        created_us: lease.created_us,
        length: history.len(),
        read,
        held_back,
        ..NodeTurn::of(lease.instance.clone())
    };
    let held = core.held.insert(&lease.token, held);
    if messages.is_empty() {
        end_without_running(core, lease.token, held);
        return;
    }
    let item = OrchestrationItem {
        instance: lease.instance,
        orchestration_name: name,
        execution_id: u64::try_from(execution).unwrap_or(INITIAL_EXECUTION_ID),
        version,
        history,
        messages,
        history_error,
        kv_snapshot: lease.keys,
    };
    queue.offer(LeasedTurn { item, token: lease.token, attempt: u32::try_from(attempt).unwrap_or(1) });
}

/// The name, version and execution that an instance runs: from its row, or else from its history, or else from its
/// start.
fn identity(
    name: Option<String>,
    version: Option<String>,
    execution: Option<i64>,
    history: &[Event],
    messages: &[WorkItem],
) -> (String, String, i64) {
    const UNKNOWN: &str = "unknown";
    let initial = i64::try_from(INITIAL_EXECUTION_ID).unwrap_or(1);
    if let Some(name) = name {
        return (name, version.unwrap_or_else(|| UNKNOWN.to_owned()), execution.unwrap_or(initial));
    }
    if let Some(EventKind::OrchestrationStarted { name, version, .. }) = history.first().map(|event| &event.kind) {
        return (name.clone(), version.clone(), initial);
    }
    let start = messages.iter().find_map(|message| match message {
        WorkItem::StartOrchestration { orchestration, version, execution_id, .. } => {
            Some((orchestration.clone(), version.clone(), i64::try_from(*execution_id).unwrap_or(initial)))
        }
        WorkItem::ContinueAsNew { orchestration, version, .. } => {
            Some((orchestration.clone(), version.clone(), initial))
        }
        _ => None,
    });
    match start {
        Some((name, version, execution)) => (name, version.unwrap_or_else(|| UNKNOWN.to_owned()), execution),
        None => ("Unknown".to_owned(), UNKNOWN.to_owned(), initial),
    }
}

/// Offers leased activities to their queue, in the order of their ids. Returns how many there were.
pub fn deliver_activities(
    core: &Arc<NodeState>,
    queue: &ActivityPrefetchQueue,
    answers: &[PgRow],
) -> Result<usize, sqlx::Error> {
    let mut leased = Vec::new();
    for row in answers.iter().map(AnswerRow) {
        if row.kind()? == rows::LEASED_ACTIVITY {
            let owner = row.name()?.map(|slot| (slot, row.execution().is_ok_and(|is_new| is_new == Some(1))));
            leased.push((row.id()?, row.token()?, row.attempt()?, row.item()?.unwrap_or_default(), owner));
        }
    }
    leased.sort_by_key(|(id, ..)| *id);
    let count = leased.len();
    for (id, token, attempt, text, owner) in leased {
        let Ok(item @ WorkItem::ActivityExecute { .. }) = serde_json::from_str::<WorkItem>(&text) else {
            tracing::error!(target: "duroxide::store", id, "an activity cannot be read, and is skipped");
            continue;
        };
        let activity = LeasedActivity { item, id, token, attempt: u32::try_from(attempt).unwrap_or(1) };
        match owner {
            None => queue.offer(activity),
            Some((slot, is_new)) => {
                core.has_sessions.store(true, Ordering::Release);
                let session = session_of(&activity.item).filter(|_| is_new);
                if let (Some(session), Some(limit)) = (&session, core.session_limits.of(&slot)) {
                    limit.admit(session);
                }
                if let Err(refused) = queue.offer_to(&slot, activity) {
                    give_back_with_session(core, refused, session, slot);
                }
            }
        }
    }
    Ok(count)
}

fn session_of(item: &WorkItem) -> Option<String> {
    match item {
        WorkItem::ActivityExecute { session_id, .. } => session_id.clone(),
        _ => None,
    }
}

/// Gives an activity back whose slot has taken other work since. `session` is its session, if the slot has got it with
/// this activity: another slot may have it then.
fn give_back_with_session(core: &Arc<NodeState>, activity: LeasedActivity, session: Option<String>, slot: String) {
    let (core, lease_in_flight) = (Arc::clone(core), core.leases_in_flight.add());
    tokio::spawn(async move {
        let _lease_in_flight = lease_in_flight;
        if let Some(session) = session {
            let _ = core.give_back_session(&session, &slot, &activity.token).await;
        }
        let _ = core.give_back_activity(activity.id, &activity.token, None, false).await;
    });
}
