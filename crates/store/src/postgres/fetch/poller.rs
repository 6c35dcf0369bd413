//! The poller looks for work on the server: when a notification arrives, when a message or an activity is due, and
//! about twice a second besides.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use duroxide::providers::TagFilter;
use sqlx::postgres::PgRow;
use sqlx::{Executor as _, query, query_as};
use tokio::time::{Instant, timeout};

use crate::availability::Availability;
use crate::backoff::{FAILURES_OF_OUTAGE, LONGEST_PAUSE, pause_after};
use crate::clock::span_ms;
use crate::postgres::connect::dedicated::{ANSWER_TIMEOUT, DedicatedConnection};
use crate::postgres::connect::session::BEGIN;
use crate::postgres::errors::{failed, is_about_data};
use crate::postgres::fetch::deliver::{deliver, deliver_activities};
use crate::postgres::fetch::lease::leases;
use crate::postgres::fetch::rows;
use crate::postgres::fetch::rows::AnswerRow;
use crate::postgres::fetch::session_demand::SessionDemand;
use crate::postgres::node::left_out::{self, LeftOutRow};
use crate::postgres::node::prefetch::PrefetchQueue;
use crate::postgres::node::state::{ActivityPrefetchQueue, NodeState, TurnPrefetchQueue};
use crate::postgres::notify::channel;
use crate::postgres::queries::Server;
use crate::postgres::queries::live::REPORT_INTERVAL;
use crate::postgres::schema::function;
use crate::session_limits::IDLE_BEFORE_GIVEN_UP;

/// How often the poller asks the server without a reason, since nodes of other languages send no notifications, and
/// notifications may get lost. This makes slightly less than two statements a second.
const POLL_INTERVAL: Duration = Duration::from_millis(550);
/// How long a prefetched turn may wait for a slot. Turns are short, so a slot becomes free soon.
const LONGEST_TURN_WAIT: Duration = Duration::from_secs(1);
/// How long a prefetched activity may wait for a slot. An activity in the slot may run for ever.
const LONGEST_ACTIVITY_WAIT: Duration = Duration::from_millis(100);
/// The smallest step back of the server's clock that the poller detects.
const CLOCK_STEP_MS: i64 = 2_000;
/// How long the poller repairs the times again after such a step. A transaction that read the clock before the step may
/// commit after the first repair; a node does not wait longer than this for its answer.
const LONGEST_REPAIR: Duration = ANSWER_TIMEOUT;
/// The longest lease that other nodes are assumed to take.
const LONGEST_LEASE_MS: i64 = 60_000;

/// How many parameters the server's function `python_claim` has.
const CLAIM_COLUMNS: usize = 18;

pub struct Poller {
    core: Arc<NodeState>,
    dedicated: DedicatedConnection,
    statement: String,
    failures: u32,
    /// The last time of the server's clock, and when it arrived.
    server_time: Option<(i64, Instant)>,
    /// Whether the times have been repaired once. The server's clock may have been set back while no node was there.
    has_repaired: bool,
    /// Until when the slow look repairs times, since the server's clock was set back.
    repairs_until: Option<Instant>,
    availability: Arc<Availability>,
    last_report: Option<Instant>,
    /// When the poller last looked for rows that are never due.
    last_search: Option<Instant>,
}

/// The work that one call of the server asks for.
#[derive(Default)]
struct FetchRequest {
    turns: Option<(Arc<TurnPrefetchQueue>, usize)>,
    activities: Option<(Arc<ActivityPrefetchQueue>, usize)>,
    sessions: SessionDemand,
}

impl Poller {
    pub fn new(core: Arc<NodeState>, availability: Arc<Availability>) -> Self {
        let name = function(&core.schema, "claim");
        let columns = (1..=CLAIM_COLUMNS).map(|column| format!("${column}")).collect::<Vec<_>>().join(", ");
        let statement = format!("SELECT * FROM {name}({columns})");
        let dedicated = DedicatedConnection::new(core.pool.clone(), Arc::clone(&core.isolation), core.moves.clone());
        Self {
            core,
            dedicated,
            statement,
            failures: 0,
            server_time: None,
            has_repaired: false,
            repairs_until: None,
            availability,
            last_report: None,
            last_search: None,
        }
    }

    /// Polls until it is aborted.
    pub async fn run(mut self) {
        let mut next_poll = Instant::now();
        loop {
            let is_time = next_poll <= Instant::now() || self.core.take_due();
            if is_time {
                next_poll = Instant::now() + POLL_INTERVAL;
            }
            match self.poll(is_time).await {
                Ok(()) => self.recovered(),
                Err(error) => {
                    next_poll = Instant::now() + self.failed(&error);
                    self.wait(next_poll, false).await;
                    continue;
                }
            }
            self.report();
            self.find_never_due();
            self.core.rounds.send_modify(|rounds| *rounds += 1);
            self.core.give_back_unwanted(LONGEST_TURN_WAIT, LONGEST_ACTIVITY_WAIT).await;
            self.wait(next_poll, true).await;
        }
    }

    /// Reports to the other processes what this node can run, every few seconds. The poller does not wait for it.
    fn report(&mut self) {
        let core = &self.core;
        if core.dispatching.load(Ordering::Acquire) == 0
            || self.last_report.is_some_and(|last| last.elapsed() < REPORT_INTERVAL)
                && !core.must_report.load(Ordering::Acquire)
        {
            return;
        }
        let Some(report) = core.events.get().and_then(|events| events.report()) else { return };
        core.must_report.store(false, Ordering::Release);
        self.last_report = Some(Instant::now());
        let core = Arc::clone(core);
        tokio::spawn(async move {
            let server = Server { pool: &core.pool, schema: &core.schema };
            if let Ok(Err(error)) = timeout(REPORT_INTERVAL, server.report_node(&report)).await {
                tracing::debug!(target: "duroxide::store", "other processes cannot see this node: {error}");
            }
            // The node may have ended since.
            if core.dispatching.load(Ordering::Acquire) == 0 {
                let _ = timeout(REPORT_INTERVAL, server.forget_node(&core.node)).await;
            }
        });
    }

    /// Looks for rows that are never due, now and then, while a runtime works. The poller does not wait for it.
    fn find_never_due(&mut self) {
        if self.core.dispatching.load(Ordering::Acquire) == 0
            || self.last_search.is_some_and(|last| last.elapsed() < left_out::PAUSE)
        {
            return;
        }
        self.last_search = Some(Instant::now());
        let core = Arc::clone(&self.core);
        tokio::spawn(async move {
            let server = Server { pool: &core.pool, schema: &core.schema };
            if let Ok(Ok(rows)) = timeout(ANSWER_TIMEOUT, server.never_due()).await {
                for row in rows {
                    core.left_out.report(&core.schema, &row);
                }
            }
        });
    }

    /// Waits until there is a reason to poll.
    async fn wait(&self, next_poll: Instant, is_wakeable: bool) {
        let core = &self.core;
        let until = [Some(next_poll), core.due(), core.notifier.ready_at()].into_iter().flatten().min();
        let until = until.unwrap_or(next_poll);
        if !is_wakeable {
            return tokio::time::sleep_until(next_poll).await;
        }
        let ahead = core.ahead();
        if core.turn_queues().iter().any(|queue| queue.can_use_hint(ahead))
            || core.activity_queues().iter().any(|queue| queue.can_use_hint(ahead))
        {
            return;
        }
        tokio::select! {
            () = core.wanted.notified() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }

    /// Sends the notification that is due, and asks the server for the work that the queues have hints of, or for all
    /// kinds.
    async fn poll(&mut self, everything: bool) -> Result<(), sqlx::Error> {
        self.notify().await?;
        let core = Arc::clone(&self.core);
        let _lease_in_flight = core.leases_in_flight.add();
        if everything {
            core.turn_queues().iter().for_each(|queue| queue.hint());
            core.activity_queues().iter().for_each(|queue| queue.find_ended());
        }
        let turns = with_demand(core.turn_queues(), core.ahead(), everything);
        let activities = with_demand(core.activity_queues(), core.ahead(), everything);
        // Most nodes have one queue of each kind, so one call is enough.
        for place in 0..turns.len().max(activities.len()) {
            let mut question = FetchRequest {
                turns: turns.get(place).cloned(),
                activities: activities.get(place).cloned(),
                ..FetchRequest::default()
            };
            if let Some((queue, _)) = &question.activities {
                question.sessions = SessionDemand::of(queue.owners());
            }
            if let Err(error) = self.ask(&question).await {
                for (queue, _) in &turns {
                    queue.hint();
                }
                for (queue, _) in &activities {
                    queue.find_ended();
                }
                return Err(error);
            }
        }
        if everything { self.repair_times().await } else { Ok(()) }
    }

    /// Repairs the times that lie in the future of the server's clock: at the first look, and for a while after the clock
    /// was set back.
    async fn repair_times(&mut self) -> Result<(), sqlx::Error> {
        if let Some(until) = self.repairs_until {
            // The clock was set back a moment ago, so a lease that would last for longer was granted before.
            let turns = self.core.turn_queues().iter().map(|queue| queue.lease_ms()).max();
            let longest = turns.max(self.core.activity_queues().iter().map(|queue| queue.lease_ms()).max());
            if until <= Instant::now() {
                self.repairs_until = None;
            }
            self.set_back(Some(longest.unwrap_or(0).max(LONGEST_LEASE_MS))).await
        } else if self.has_repaired {
            Ok(())
        } else {
            self.set_back(None).await
        }
    }

    async fn ask(&mut self, question: &FetchRequest) -> Result<(), sqlx::Error> {
        let core = Arc::clone(&self.core);
        let finds_ended = question.activities.as_ref().is_some_and(|(queue, _)| queue.take_finds_ended());
        let finds_ended = finds_ended || core.policy.strict_leases;
        let asked = Instant::now();
        let answers = match self.claim(question, finds_ended).await {
            Err(error) if core.isolation.is_refused(&error) => self.claim(question, finds_ended).await?,
            Err(error) if is_about_data(&error) && self.leave_unclaimable(question).await? => {
                self.claim(question, finds_ended).await?
            }
            answers => answers?,
        };
        if let Some((queue, _)) = &question.turns {
            let leases = leases(&answers)?;
            // Several messages of one instance make one lease, so after any lease there may be more work.
            if !leases.is_empty() {
                queue.hint();
            }
            deliver(&core, queue, leases);
        }
        if let Some((queue, demand)) = &question.activities
            && deliver_activities(&core, queue, &answers)? >= *demand
        {
            // There may be more activities, and more of those whose lease has ended.
            if finds_ended && holds_repeated(&answers)? { queue.find_ended() } else { queue.hint() }
        }
        let mut time = None;
        for row in answers.iter().map(AnswerRow) {
            match row.kind()? {
                rows::DUE => core.due_in(row.id()?.max(1)),
                rows::TIME => time = Some(row.id()?),
                rows::HELD_BACK => question.sessions.hold_back(row.id()?, row.name()?.unwrap_or_default()),
                _ => {}
            }
        }
        if let Some(time) = time {
            self.check_clock(time, asked);
        }
        Ok(())
    }

    /// Compares the server's clock with the time that has passed on this node. If the clock was set back, messages that
    /// were sent before would be invisible, so the next slow looks repair their times.
    fn check_clock(&mut self, time_ms: i64, asked: Instant) {
        let passed_since = |since: Instant| span_ms(asked.saturating_duration_since(since));
        let expected = self.server_time.map_or(time_ms, |(time_ms, since)| time_ms + passed_since(since));
        self.server_time = Some((time_ms, Instant::now()));
        if time_ms + CLOCK_STEP_MS > expected {
            return;
        }
        tracing::warn!(
            target: "duroxide::store",
            schema = %self.core.schema,
            "the clock of the server was set back by {} ms; messages of the time between become visible now",
            expected - time_ms
        );
        self.repairs_until = Some(Instant::now() + LONGEST_REPAIR);
    }

    /// Repairs the times that lie in the future of the server's clock, and lets the poller look again.
    async fn set_back(&mut self, longest_ms: Option<i64>) -> Result<(), sqlx::Error> {
        let mut connection = self.dedicated.take().await?;
        let statement = format!("SELECT {}($1)", function(&self.core.schema, "set_back"));
        let set_back = query(&statement).bind(longest_ms).execute(&mut connection);
        let set_back = self.dedicated.wait(set_back).await;
        self.dedicated.put_back(connection, set_back).await?;
        self.has_repaired = true;
        self.core.hint_turns();
        self.core.hint_activities();
        Ok(())
    }

    /// Leaves out the rows with values that the server refuses, so that the node can lease the others. Returns whether it
    /// found such rows.
    async fn leave_unclaimable(&mut self, question: &FetchRequest) -> Result<bool, sqlx::Error> {
        let core = Arc::clone(&self.core);
        let versions = question.turns.as_ref().and_then(|(queue, _)| queue.key);
        let statement = format!("SELECT * FROM {}($1, $2, $3, $4)", function(&core.schema, "unclaimable"));
        let mut connection = self.dedicated.take().await?;
        let asked = query_as::<_, (String, i64, Option<String>, String)>(&statement)
            .bind(versions.map(|(lowest, _)| lowest))
            .bind(versions.map(|(_, highest)| highest))
            .bind(core.left_to_others.instances())
            .bind(core.left_to_others.activities())
            .fetch_all(&mut connection);
        let found = self.dedicated.wait(asked).await;
        let found = self.dedicated.put_back(connection, found).await?;
        let mut leaves_any = false;
        for (table, id, instance, message) in found {
            let fact = format!("the server refuses it: {message}");
            let row = LeftOutRow { table, id, instance, fact };
            core.left_out.report(&core.schema, &row);
            leaves_any |= match row.instance {
                Some(instance) if row.table == "orchestrator_queue" => {
                    core.left_to_others.leave_instance(&instance, left_out::PAUSE)
                }
                _ => core.left_to_others.leave_activity(id, left_out::PAUSE),
            };
        }
        Ok(leaves_any)
    }

    async fn claim(&mut self, question: &FetchRequest, finds_ended: bool) -> Result<Vec<PgRow>, sqlx::Error> {
        let Self { core, dedicated, statement, .. } = self;
        let prefix = core.token();
        let turns = question.turns.as_ref().map(|(queue, demand)| (queue.lease_ms(), queue.key, *demand as i64));
        let (lease_ms, versions, turns) = turns.unwrap_or_default();
        let (mode, tags) = question.activities.as_ref().map_or(("none", Vec::new()), |(queue, _)| tags(&queue.key));
        let activities = question.activities.as_ref().map(|(queue, demand)| (queue.lease_ms(), *demand as i64));
        let (activity_lease_ms, activities) = activities.unwrap_or_default();
        let (left_instances, mut left_activities) = (core.left_to_others.instances(), core.left_to_others.activities());
        if !core.policy.strict_leases {
            left_activities.extend(core.running.ids());
        }
        let sessions = &question.sessions;
        let mut connection = dedicated.take().await?;
        let claim = query(statement)
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
            .bind(&sessions.slots)
            .bind(&sessions.runtimes)
            .bind(&sessions.waiting)
            .bind(&sessions.most)
            .bind(sessions.lease_ms)
            .bind(span_ms(IDLE_BEFORE_GIVEN_UP))
            .bind(finds_ended);
        let answers = dedicated.wait(async {
            if !core.isolation.is_explicit() {
                return claim.fetch_all(&mut connection).await;
            }
            connection.execute(BEGIN).await?;
            let answers = claim.fetch_all(&mut connection).await?;
            connection.execute("COMMIT").await?;
            Ok(answers)
        });
        let answers = answers.await;
        core.pulse.note(answers.is_ok());
        dedicated.put_back(connection, answers).await
    }

    /// Sends the notification to the other nodes, if one is due.
    async fn notify(&mut self) -> Result<(), sqlx::Error> {
        let Self { core, dedicated, .. } = self;
        if core.notifier.ready_at().is_none_or(|ready| ready > Instant::now()) {
            return Ok(());
        }
        let Some(notification) = core.notifier.take(&core.node) else { return Ok(()) };
        let channel = channel(&core.schema);
        let mut connection = dedicated.take().await?;
        // A crash of the server may lose the notification. The other nodes poll besides, so it need not wait for the
        // disk.
        let notify = query("SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)");
        let notify = notify.bind(&channel).bind(&notification).execute(&mut connection);
        let sent = dedicated.wait(notify).await;
        dedicated.put_back(connection, sent).await?;
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

    /// Counts a failure. Returns the pause before the next attempt.
    fn failed(&mut self, error: &sqlx::Error) -> Duration {
        self.failures += 1;
        if self.failures == FAILURES_OF_OUTAGE {
            self.availability.outage_began(&failed("fetch_orchestration_item", error));
        }
        pause_after(self.failures, LONGEST_PAUSE)
    }
}

/// Whether the answer holds an activity that was leased before.
fn holds_repeated(answers: &[PgRow]) -> Result<bool, sqlx::Error> {
    for row in answers.iter().map(AnswerRow) {
        if row.kind()? == rows::LEASED_ACTIVITY && row.attempt()? > 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The queues for which the poller asks the server, and the number of items that each can use.
fn with_demand<Key, Item>(
    queues: Vec<Arc<PrefetchQueue<Key, Item>>>,
    ahead: usize,
    everything: bool,
) -> Vec<(Arc<PrefetchQueue<Key, Item>>, usize)> {
    let waited_for = queues.into_iter().filter(|queue| queue.is_waited_for());
    let wanted = waited_for.filter_map(|queue| {
        let has_hint = queue.take_hint();
        let demand = queue.demand(ahead);
        if demand > 0 && (everything || has_hint) {
            return Some((queue, demand));
        }
        if has_hint {
            // The queue keeps the hint until it can use it.
            queue.hint();
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
