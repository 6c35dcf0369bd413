//! Looking for work on the server: when somebody tells that there is some, when something is due, and slowly beside that.

use std::sync::Arc;
use std::time::Duration;

use duroxide::providers::TagFilter;
use sqlx::postgres::PgRow;
use sqlx::query;
use tokio::time::{Instant, timeout};

use crate::availability::Availability;
use crate::backoff::{LONGEST_PAUSE, OUTAGE_FAILURES, pause_after};
use crate::clock::span_ms;
use crate::postgres::connect::dedicated::{ANSWER, DedicatedConnection};
use crate::postgres::errors::failed;
use crate::postgres::fetch::deliver::{deliver, deliver_activities};
use crate::postgres::fetch::lease::leases;
use crate::postgres::fetch::rows;
use crate::postgres::fetch::rows::AnswerRow;
use crate::postgres::node::prefetch::PrefetchQueue;
use crate::postgres::node::state::{ActivityQueue, NodeState, TurnQueue};
use crate::postgres::notify::channel;
use crate::postgres::schema::function;

/// How often to look when nothing is heard: nodes of other languages notify nobody, and notifications may be lost. Just above what
/// makes two statements a second.
const SLOW_LOOK: Duration = Duration::from_millis(550);
/// Turns take no time and so are never in the way for long; an activity may run for ever.
const TURNS_WAIT: Duration = Duration::from_secs(1);
const ACTIVITIES_WAIT: Duration = Duration::from_millis(100);
/// A clock that is set by less is not noticed.
const SET_BACK_MS: i64 = 2_000;
/// Other nodes may lease for as long.
const LONGEST_LEASE_MS: i64 = 60_000;

pub struct Poller {
    core: Arc<NodeState>,
    link: DedicatedConnection,
    statement: String,
    failures: u32,
    /// What the server's clock said, and when.
    time: Option<(i64, Instant)>,
    availability: Arc<Availability>,
}

/// What one call asks for.
#[derive(Default)]
struct FetchRequest {
    turns: Option<(Arc<TurnQueue>, usize)>,
    activities: Option<(Arc<ActivityQueue>, usize)>,
    owners: Vec<String>,
    session_ms: i64,
}

impl Poller {
    pub fn new(core: Arc<NodeState>, availability: Arc<Availability>) -> Self {
        let name = function(&core.schema, "claim");
        let statement = format!("SELECT * FROM {name}($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)");
        let link = DedicatedConnection::new(core.pool.clone());
        Self { core, link, statement, failures: 0, time: None, availability }
    }

    /// Looks until it is aborted.
    pub async fn run(mut self) {
        let mut next_look = Instant::now();
        loop {
            let is_time = next_look <= Instant::now() || self.core.take_due();
            if is_time {
                next_look = Instant::now() + SLOW_LOOK;
            }
            match self.look(is_time).await {
                Ok(()) => self.recovered(),
                Err(error) => {
                    next_look = Instant::now() + self.endure(&error);
                    self.rest(next_look, false).await;
                    continue;
                }
            }
            self.core.rounds.send_modify(|rounds| *rounds += 1);
            self.core.give_back_unwanted(TURNS_WAIT, ACTIVITIES_WAIT).await;
            self.rest(next_look, true).await;
        }
    }

    /// Until there is something to look for.
    async fn rest(&self, next_look: Instant, listens: bool) {
        let core = &self.core;
        let until = [Some(next_look), core.due(), core.outbox.ready_at()].into_iter().flatten().min();
        let until = until.unwrap_or(next_look);
        if !listens {
            return tokio::time::sleep_until(next_look).await;
        }
        let ahead = core.ahead();
        if core.turn_lanes().iter().any(|lane| lane.can_use_hint(ahead))
            || core.activity_lanes().iter().any(|lane| lane.can_use_hint(ahead))
        {
            return;
        }
        tokio::select! {
            () = core.wanted.notified() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }

    /// Asks for what the lanes have hints of, or for everything.
    async fn look(&mut self, everything: bool) -> Result<(), sqlx::Error> {
        self.tell().await?;
        let core = Arc::clone(&self.core);
        let _leasing = core.leasing();
        let turns = to_ask_for(core.turn_lanes(), core.ahead(), everything);
        let activities = to_ask_for(core.activity_lanes(), core.ahead(), everything);
        // Most nodes have one lane of each kind, and so ask one question.
        for place in 0..turns.len().max(activities.len()) {
            let mut question = FetchRequest {
                turns: turns.get(place).cloned(),
                activities: activities.get(place).cloned(),
                ..FetchRequest::default()
            };
            if let Some((lane, _)) = &question.activities {
                let owners = lane.owners();
                question.session_ms = owners.iter().map(|owner| span_ms(owner.lease)).max().unwrap_or(0);
                question.owners = owners.into_iter().map(|owner| owner.id).collect();
            }
            if let Err(error) = self.ask(&question, everything || core.policy.strict_leases).await {
                for (lane, _) in &turns {
                    lane.hint();
                }
                for (lane, _) in &activities {
                    lane.hint();
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn ask(&mut self, question: &FetchRequest, finds_ended: bool) -> Result<(), sqlx::Error> {
        let core = Arc::clone(&self.core);
        let asked = Instant::now();
        let answers = self.claim(question, finds_ended).await?;
        if let Some((lane, _)) = &question.turns {
            let leases = leases(&answers)?;
            // Several messages of one instance were found as one: where there was something, there may be more.
            if !leases.is_empty() {
                lane.hint();
            }
            deliver(&core, lane, leases);
        }
        if let Some((lane, demand)) = &question.activities
            && deliver_activities(&core, lane, &answers)? >= *demand
        {
            lane.hint();
        }
        let mut time = None;
        for row in answers.iter().map(AnswerRow) {
            match row.kind()? {
                rows::DUE => core.due_in(row.id()?.max(1)),
                rows::TIME => time = Some(row.id()?),
                _ => {}
            }
        }
        match time {
            Some(time) => self.compare(time, asked).await,
            None => Ok(()),
        }
    }

    /// Compares the server's clock with the time that has passed here: set back, it would hide what was sent before.
    async fn compare(&mut self, time_ms: i64, asked: Instant) -> Result<(), sqlx::Error> {
        let passed_since = |since: Instant| span_ms(asked.saturating_duration_since(since));
        let expected = self.time.map_or(time_ms, |(time_ms, since)| time_ms + passed_since(since));
        self.time = Some((time_ms, Instant::now()));
        if time_ms + SET_BACK_MS > expected {
            return Ok(());
        }
        tracing::warn!(
            target: "duroxide::store",
            schema = %self.core.schema,
            "the clock of the server was set back by {} ms; messages of the time between are shown",
            expected - time_ms
        );
        let lanes = self.core.turn_lanes().iter().map(|lane| lane.lease_ms()).max();
        let longest = lanes.max(self.core.activity_lanes().iter().map(|lane| lane.lease_ms()).max());
        let mut connection = self.link.take().await?;
        let statement = format!("SELECT {}($1)", function(&self.core.schema, "set_back"));
        let set_back = query(&statement).bind(longest.unwrap_or(0).max(LONGEST_LEASE_MS)).execute(&mut connection);
        let set_back = timeout(ANSWER, set_back).await;
        self.link.put_back(connection, set_back).await?;
        self.core.hint_turns();
        self.core.hint_activities();
        Ok(())
    }

    async fn claim(&mut self, question: &FetchRequest, finds_ended: bool) -> Result<Vec<PgRow>, sqlx::Error> {
        let Self { core, link, statement, .. } = self;
        let prefix = core.token();
        let turns = question.turns.as_ref().map(|(lane, demand)| (lane.lease_ms(), lane.key, *demand as i64));
        let (lease_ms, versions, turns) = turns.unwrap_or_default();
        let (mode, tags) = question.activities.as_ref().map_or(("none", Vec::new()), |(lane, _)| tags(&lane.key));
        let activities = question.activities.as_ref().map(|(lane, demand)| (lane.lease_ms(), *demand as i64));
        let (activity_lease_ms, activities) = activities.unwrap_or_default();
        let (left_instances, left_activities) = (core.left.instances(), core.left.activities());
        let mut connection = link.take().await?;
        let answers = query(statement)
            .bind(&prefix)
            .bind(turns)
            .bind(lease_ms)
            .bind(versions.map(|(lowest, _)| lowest))
            .bind(versions.map(|(_, highest)| highest))
            .bind(&left_instances)
            .bind(activities)
            .bind(activity_lease_ms)
            .bind(mode)
            .bind(&tags)
            .bind(&left_activities)
            .bind(&question.owners)
            .bind(question.session_ms)
            .bind(finds_ended)
            .fetch_all(&mut connection);
        let answers = timeout(ANSWER, answers).await;
        link.put_back(connection, answers).await
    }

    /// Tells the other nodes what there is to tell.
    async fn tell(&mut self) -> Result<(), sqlx::Error> {
        let Self { core, link, .. } = self;
        if core.outbox.ready_at().is_none_or(|ready| ready > Instant::now()) {
            return Ok(());
        }
        let Some(news) = core.outbox.take(&core.node) else { return Ok(()) };
        let channel = channel(&core.schema);
        let mut connection = link.take().await?;
        // Lost in a crash, it is made up for by the slow look.
        let tell = query("SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)");
        let told = timeout(ANSWER, tell.bind(&channel).bind(&news).execute(&mut connection)).await;
        link.put_back(connection, told).await?;
        Ok(())
    }

    fn recovered(&mut self) {
        if self.failures == 0 {
            return;
        }
        self.failures = 0;
        self.core.hint_turns();
        self.core.hint_activities();
        self.availability.outage_ended();
    }

    /// How long to leave the server alone after a failure.
    fn endure(&mut self, error: &sqlx::Error) -> Duration {
        self.failures += 1;
        if self.failures == OUTAGE_FAILURES {
            self.availability.outage_began(&failed("fetch_orchestration_item", error));
        }
        pause_after(self.failures, LONGEST_PAUSE)
    }
}

/// The lanes that have a use for what the server may have, and for how much of it.
fn to_ask_for<Key, Item>(
    lanes: Vec<Arc<PrefetchQueue<Key, Item>>>,
    ahead: usize,
    everything: bool,
) -> Vec<(Arc<PrefetchQueue<Key, Item>>, usize)> {
    let waited_for = lanes.into_iter().filter(|lane| lane.is_waited_for());
    let wanted = waited_for.filter_map(|lane| {
        let has_hint = lane.take_hint();
        let demand = lane.demand(ahead);
        if demand > 0 && (everything || has_hint) {
            return Some((lane, demand));
        }
        if has_hint {
            // It stays for when it can be used.
            lane.hint();
        }
        None
    });
    wanted.collect()
}

fn tags(filter: &TagFilter) -> (&'static str, Vec<String>) {
    match filter {
        TagFilter::DefaultOnly => ("default_only", Vec::new()),
        TagFilter::Tags(tags) => ("tags", tags.iter().cloned().collect()),
        TagFilter::DefaultAnd(tags) => ("default_and", tags.iter().cloned().collect()),
        TagFilter::Any => ("any", Vec::new()),
        TagFilter::None => ("none", Vec::new()),
    }
}
