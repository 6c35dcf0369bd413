//! The store as one runtime sees it: the `Provider` from which the engine's dispatchers fetch, and to which they
//! commit.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use duroxide::providers::TagFilter;
use parking_lot::Mutex;
use semver::Version;
use store::forward::AsProvider;
use store::live::{RuntimeReport, TagReport};
use store::operations::EngineOperations as _;
use store::retry::{RetryLimit, RetryState};
use store::session_limits::SessionLimit;
use store::{Failure, Result, retrying};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::client_view::ClientView;
use crate::commits_in_flight::CommitsInFlight;
use crate::held_turns::Turns;
use crate::metrics::{Counters, Metrics, add};
use crate::process::{Gauges, ProcessState, RuntimeReporter};
use crate::running_activities::RunningActivity;
use crate::settings::DispatcherSettings;
use crate::suspects::{self, Suspicion};
use crate::suspended::SuspendedTurnCache;
use crate::turn_record::TurnRecord;
use store::backoff::{FAILURES_OF_OUTAGE, pause_after};

/// When fetched work may begin.
pub enum Beginning {
    Now,
    Later(Duration),
    /// The runtime ends.
    Never,
}

/// The engine's `Provider` for one runtime.
pub struct Dispatcher {
    pub shared: Arc<ProcessState>,
    pub view: Arc<ClientView>,
    /// For the engine, which asks a store for its administration.
    admin: AsProvider<ClientView>,
    pub settings: Arc<DispatcherSettings>,
    stop: CancellationToken,
    pub turns: Turns,
    /// Keeps suspended orchestrations between their turns. Without it every turn is replayed from the beginning.
    pub suspended_turns: OnceLock<Arc<dyn SuspendedTurnCache>>,
    pub counters: Counters,
    /// The leases of this dispatcher's activities.
    pub leased_activities: Mutex<HashSet<String>>,
    /// How many sessions the slots of this dispatcher may own, and which slots those are.
    pub session_limit: Arc<SessionLimit>,
    pub commits: CommitsInFlight,
    /// As last read from the store.
    gauges: Mutex<Gauges>,
}

/// How long a reader of the metrics waits for the commits that are under way.
const LONGEST_SETTLING: Duration = Duration::from_secs(1);
/// How long a reader of the metrics waits for the counts of the store.
const LONGEST_COUNT: Duration = Duration::from_secs(5);
const LONGEST_OUTAGE_PAUSE: Duration = Duration::from_secs(2);
/// The longest wait of one fetch. The engine may ask for a longer one, but a deadline must be a point in time.
pub const LONGEST_POLL: Duration = Duration::from_secs(3600);

impl Dispatcher {
    pub fn new(shared: Arc<ProcessState>, settings: DispatcherSettings) -> Self {
        let session_limit = Arc::new(SessionLimit::new(settings.capacity.max_sessions));
        let settings = Arc::new(settings);
        shared.add_registry(&settings);
        let view = Arc::new(ClientView { shared: Arc::clone(&shared) });
        Self {
            admin: AsProvider { store: Arc::clone(&view), name: shared.backend().name() },
            view,
            shared,
            settings,
            stop: CancellationToken::new(),
            turns: Turns::default(),
            suspended_turns: OnceLock::new(),
            counters: Counters::default(),
            leased_activities: Mutex::default(),
            session_limit,
            commits: CommitsInFlight::default(),
            gauges: Mutex::default(),
        }
    }

    /// Keeps suspended orchestrations in `suspended_turns` from now on; only the first call has an effect.
    pub fn keep_in(&self, suspended_turns: Arc<dyn SuspendedTurnCache>) {
        if self.suspended_turns.set(Arc::clone(&suspended_turns)).is_ok() {
            self.shared.add_suspended_cache(&suspended_turns);
        }
    }

    /// The turn of the current task, from its fetch until it is acknowledged or abandoned.
    pub fn turn(&self) -> Option<Arc<TurnRecord>> {
        self.turns.current()
    }

    /// Whether the lease of a turn counts from the end of its code, without renewals while the code runs.
    pub fn leases_count_from_the_end_of_code(&self) -> bool {
        self.shared.backend().traits().leases_from_code_end
    }

    /// The running activity whose input carries `token`.
    pub fn running_activity(&self, token: &str) -> Option<Arc<RunningActivity>> {
        self.shared.running_activities.get(token)
    }

    /// When an instance was created, in the unit of the store; `None` if the instance does not exist. An outage of the
    /// store is waited out, since an activity asks, and it must not fail for that.
    pub async fn created(&self, instance: &str) -> Result<Option<u64>> {
        let backend = self.shared.backend();
        let mut retry = RetryState::new(RetryLimit::Lease);
        retrying!(self.shared.availability(), "get_instance_info", &mut retry, backend.created(instance))
    }

    /// The counters, with every commit that the store shows already. The store tells what is running and what waits for
    /// code; if it does not answer soon, these two are as they were last read.
    pub async fn metrics(&self) -> Metrics {
        let _ = timeout(LONGEST_SETTLING, self.commits.settle()).await;
        let counters = self.counters.snapshot();
        if let Ok(Ok(gauges)) = timeout(LONGEST_COUNT, self.shared.gauges()).await {
            *self.gauges.lock() = gauges;
        }
        self.with_gauges(counters)
    }

    /// The counters as they are at this moment, without waiting.
    pub fn metrics_now(&self) -> Metrics {
        self.with_gauges(self.counters.snapshot())
    }

    fn with_gauges(&self, counters: Metrics) -> Metrics {
        let Gauges { running, waiting_for_code } = *self.gauges.lock();
        Metrics {
            active_orchestrations: running,
            orch_waiting_for_code: waiting_for_code,
            activities_waiting_for_code: self.shared.waiting_activities.count(),
            sessions_held_back: self.session_limit.count(),
            rows_left_out: self.shared.backend().rows_left_out() as u64,
            ..counters
        }
    }

    /// Ends every fetch that waits, and every later one, with nothing found.
    pub fn stop(&self) {
        self.stop.cancel();
        self.shared.remove_registry(&self.settings);
    }

    /// Gives the leases back after the runtime has ended, so that other nodes need not wait for them, and none of them
    /// counts as a delivery: the leases of turns that were cut off, and of activities whose code still runs but whose
    /// results will not be recorded. If this fails, the leases end by themselves.
    pub async fn give_everything_back(&self) {
        let backend = self.shared.backend();
        let turns = self.turns.tokens();
        if !backend.traits().has_other_nodes {
            // Code that still runs here keeps its lease, so that another runtime of this process does not run it, too.
            let activities: Vec<String> = self.leased_activities.lock().drain().collect();
            let _ = backend.uncount(&turns, &activities).await;
            return;
        }
        if !backend.answers().await {
            return;
        }
        for token in turns {
            let _ = self.abandon_turn(&token, None, true).await;
        }
        let activities = std::mem::take(&mut *self.leased_activities.lock());
        for token in activities {
            let _ = backend.abandon_work_item(&token, None, true).await;
        }
    }

    /// Lets other nodes take the sessions, unless the runtime may come back under the name that they know. This comes last,
    /// since a lease that was on its way may have bound one more session.
    pub async fn give_sessions_back(&self) {
        let backend = self.shared.backend();
        backend.session_limits().remove(&self.session_limit);
        let owners = self.session_limit.owners();
        if !self.settings.returns_by_name && !owners.is_empty() && backend.answers().await {
            let _ = backend.release_sessions(&owners).await;
        }
    }

    /// An instance whose code runs now.
    pub fn instance_with_running_code(&self) -> Option<String> {
        self.turns.with_running_code()
    }

    /// Resolves when the runtime ends, or the store.
    async fn stopped(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.shared.database.closing.cancelled() => {}
        }
    }

    /// Fetches until the store finds something, however often it fails before. Returns `None` at the deadline and at
    /// the stop.
    pub async fn find<T, Fetch: Future<Output = Result<Option<T>>>>(
        &self,
        operation: &str,
        deadline: Instant,
        fetch: impl Fn(Duration) -> Fetch,
    ) -> Option<T> {
        let mut failures = 0;
        loop {
            match self.wait_for(operation, deadline, &fetch).await? {
                Ok(fetched) => {
                    failures = 0;
                    self.shared.availability().outage_ended();
                    if fetched.is_some() {
                        return fetched;
                    }
                }
                Err(failure) => {
                    self.wait_after_failure(&failure, failures, deadline).await;
                    failures += 1;
                }
            }
        }
    }

    async fn wait_for<T, Fetch: Future<Output = Result<T>>>(
        &self,
        operation: &str,
        deadline: Instant,
        fetch: &impl Fn(Duration) -> Fetch,
    ) -> Option<Result<T>> {
        let rest = deadline.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero())?;
        let fetched = async {
            self.shared.availability().check_open(operation)?;
            fetch(rest).await
        };
        tokio::select! {
            biased;
            () = self.stopped() => None,
            fetched = fetched => Some(fetched),
        }
    }

    /// Waits for `pause`, at most until `deadline` or the stop.
    pub async fn rest(&self, pause: Duration, deadline: Instant) {
        tokio::select! {
            () = tokio::time::sleep_until(deadline.min(Instant::now() + pause)) => {}
            () = self.stopped() => {}
        }
    }

    /// Decides when fetched work may begin. A suspect that begins alone rests before.
    pub async fn beginning_of(&self, token: &str, attempt: u32, lease: Duration) -> Beginning {
        match self.shared.suspects.admit(token, attempt, self.settings.max_attempts) {
            Suspicion::None => Beginning::Now,
            Suspicion::Waits(pause) => Beginning::Later(pause),
            Suspicion::Alone => {
                let pause = suspects::rest(lease);
                self.rest(pause, Instant::now() + pause).await;
                if !self.stop.is_cancelled() && !self.shared.database.closing.is_cancelled() {
                    return Beginning::Now;
                }
                self.shared.suspects.end(token);
                Beginning::Never
            }
        }
    }

    /// Waits after a fetch that failed. The pauses of the engine grow without bound, so the outage is waited out here.
    async fn wait_after_failure(&self, failure: &Failure, failures: u32, deadline: Instant) {
        if self.shared.availability().is_closed() {
            return self.rest(LONGEST_POLL, deadline).await;
        }
        add(&self.counters.provider_errors);
        if failures >= FAILURES_OF_OUTAGE {
            self.shared.availability().outage_began(failure);
        }
        let pause = pause_after(failures, LONGEST_OUTAGE_PAUSE);
        self.rest(pause, deadline).await;
    }

    fn counted<T>(&self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            add(&self.counters.provider_errors);
        }
        outcome
    }
}

impl RuntimeReporter for Dispatcher {
    fn report(&self) -> Option<RuntimeReport> {
        if self.stop.is_cancelled() {
            return None;
        }
        let settings = &self.settings;
        let versions = |versions: &Vec<Version>| versions.iter().map(Version::to_string).collect();
        let mut orchestrations: Vec<(String, Vec<String>)> =
            settings.orchestrations.iter().map(|(name, registered)| (name.clone(), versions(registered))).collect();
        orchestrations.sort_unstable();
        let mut activities: Vec<String> = settings.activities.iter().cloned().collect();
        activities.sort_unstable();
        Some(RuntimeReport {
            orchestrations,
            activities,
            tags: tag_report(&settings.capacity.tags),
            orchestration_slots: settings.capacity.orchestration_slots,
            worker_slots: settings.capacity.worker_slots,
            max_sessions: settings.capacity.max_sessions,
            session_workers: self.session_limit.owners(),
            sessions: 0,
            busy_workers: self.leased_activities.lock().len(),
        })
    }

    fn node_name(&self) -> Option<&str> {
        self.settings.node_name.as_deref()
    }
}

fn tag_report(filter: &TagFilter) -> TagReport {
    let (takes_untagged, tags) = match filter {
        TagFilter::DefaultOnly | TagFilter::Any => (true, Vec::new()),
        TagFilter::DefaultAnd(tags) => (true, tags.iter().cloned().collect()),
        TagFilter::Tags(tags) => (false, tags.iter().cloned().collect()),
        TagFilter::None => (false, Vec::new()),
    };
    TagReport { takes_all: *filter == TagFilter::Any, takes_untagged, tags }
}

fn deadline(poll_timeout: Duration) -> Instant {
    Instant::now() + poll_timeout.min(LONGEST_POLL)
}

/// At most ten of the names that exist, for a message.
pub fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let mut names: Vec<_> = names.map(String::as_str).collect();
    names.sort_unstable();
    match names.len() {
        0 => "nothing".to_owned(),
        1..=10 => names.join(", "),
        _ => format!("{}, …", names[..10].join(", ")),
    }
}

/// The dispatcher does more than the store when it fetches, commits and gives back turns and activities. All other
/// operations are those of the client view.
macro_rules! for_runtime {
    ($self:ident, fetch_orchestration_item($lock_timeout:ident, $poll_timeout:ident, $filter:ident)) => {
        Ok($self.next_turn($lock_timeout, deadline($poll_timeout), $filter).await)
    };
    ($self:ident, commit_turn($token:ident, $commit:ident)) => {{
        let outcome = $self.end_turn($token, $commit).await;
        $self.counted(outcome)
    }};
    ($self:ident, abandon_orchestration_item($token:ident, $delay:ident, $ignore_attempt:ident)) => {{
        let outcome = $self.abandon_turn($token, $delay, $ignore_attempt).await;
        $self.counted(outcome)
    }};
    ($self:ident, fetch_work_item($lock_timeout:ident, $poll_timeout:ident, $session:ident, $tags:ident)) => {
        Ok($self.next_activity($lock_timeout, deadline($poll_timeout), $session, $tags).await)
    };
    ($self:ident, ack_work_item($token:ident, $completion:ident)) => {{
        let outcome = $self.end_activity($token, $completion).await;
        $self.counted(outcome)
    }};
    ($self:ident, renew_work_item_lock($token:ident, $extend_for:ident)) => {
        $self.renew_activity($token, $extend_for).await
    };
    ($self:ident, abandon_work_item($token:ident, $delay:ident, $ignore_attempt:ident)) => {{
        let outcome = $self.abandon_activity($token, $delay, $ignore_attempt).await;
        $self.counted(outcome)
    }};
    ($self:ident, read($instance:ident)) => {
        $self.read_for_activity($instance).await
    };
    // Among them the renewal of a turn's lease: the engine stops it a moment after the turn, and losing that race is
    // not a failure of the store.
    ($self:ident, $operation:ident($($argument:ident),*)) => {
        $self.view.$operation($($argument),*).await
    };
}

store::forward_provider!([] Dispatcher, name: |this| this.shared.backend().name(), admin: |this| &this.admin, for_runtime);

impl Dispatcher {
    async fn renew_activity(&self, token: &str, extend_for: Duration) -> Result<()> {
        let outcome = self.view.renew_work_item_lock(token, extend_for).await;
        let is_over = match &outcome {
            Ok(()) => self.is_asked_to_end(token).await,
            Err(failure) => failure.is_lock_lost(),
        };
        if is_over && let Some(running) = self.shared.running_activities.get(token) {
            running.cancel();
        }
        outcome
    }

    /// The engine asks once per activity, for name, version and execution alone; see [`crate::process::Descriptors`].
    async fn read_for_activity(&self, instance: &str) -> Result<Vec<duroxide::Event>> {
        if let Some(started) = self.shared.descriptors.get(instance) {
            return Ok(vec![started]);
        }
        let history = self.view.read(instance).await?;
        self.shared.descriptors.remember(&history);
        Ok(history)
    }
}
