//! The options of a runtime, as Python has checked them, and as the engine wants them.

use std::time::Duration;

use duroxide::providers::TagFilter;
use duroxide::runtime::RuntimeOptions as EngineOptions;
use pyo3::prelude::*;

use crate::boundary::limits::MAX_DURATION_MS;
use crate::boundary::options::choices;
use crate::logging;
use crate::orchestration::CacheLimits;
use engine_adapter::Nondeterminism;

/// Read from the dictionary that `duroxide.options` makes of a `RuntimeOptions`; times are milliseconds.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct RuntimeOptions {
    orchestration_concurrency: usize,
    worker_concurrency: usize,
    dispatcher_poll_interval_ms: u64,
    dispatcher_long_poll_timeout_ms: u64,
    orchestrator_lock_timeout_ms: u64,
    orchestrator_lock_renewal_buffer_ms: u64,
    worker_lock_timeout_ms: u64,
    worker_lock_renewal_buffer_ms: Option<u64>,
    max_attempts: u32,
    activity_cancellation_grace_period_ms: u64,
    cleanup_timeout_ms: Option<u64>,
    unregistered_timeout_ms: u64,
    session_lock_timeout_ms: u64,
    session_lock_renewal_buffer_ms: u64,
    session_idle_timeout_ms: u64,
    session_cleanup_interval_ms: u64,
    max_sessions_per_runtime: usize,
    worker_node_id: Option<String>,
    worker_tag_filter: GivenTagFilter,
    log_level: Option<String>,
    log_format: Option<String>,
    service_name: Option<String>,
    service_version: Option<String>,
    sticky: bool,
    max_sticky_orchestrations: usize,
    max_sticky_bytes: usize,
    sticky_idle_timeout_ms: u64,
    retention_ms: Option<u64>,
    /// `"wait"` or `"fail"`.
    nondeterminism: String,
    /// Whether orchestrations are watched for calls that replay cannot repeat.
    strict: bool,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct GivenTagFilter {
    kind: String,
    names: Vec<String>,
}

choices! {
    enum TagFilterKind("tag filter") {
        DefaultOnly = "default_only",
        Tags = "tags",
        DefaultAnd = "default_and",
        Any = "any",
        None = "none",
    }
}

impl GivenTagFilter {
    fn filter(&self) -> PyResult<TagFilter> {
        let names = self.names.iter().cloned().collect();
        Ok(match self.kind.parse()? {
            TagFilterKind::DefaultOnly => TagFilter::DefaultOnly,
            TagFilterKind::Tags => TagFilter::Tags(names),
            TagFilterKind::DefaultAnd => TagFilter::DefaultAnd(names),
            TagFilterKind::Any => TagFilter::Any,
            TagFilterKind::None => TagFilter::None,
        })
    }
}

choices! {
    enum OnMismatch("nondeterminism") {
        Wait = "wait",
        Fail = "fail",
    }
}

impl RuntimeOptions {
    pub(crate) fn poll_interval(&self) -> Duration {
        Duration::from_millis(self.dispatcher_poll_interval_ms)
    }

    pub(crate) fn unregistered_timeout(&self) -> Duration {
        Duration::from_millis(self.unregistered_timeout_ms)
    }

    /// How long a coroutine may take to clean up after it was asked to end. Without a limit it is the longest time of a
    /// timer: every clean-up records a timer, so that history fits another limit, too.
    pub(crate) fn cleanup_timeout(&self) -> Duration {
        Duration::from_millis(self.cleanup_timeout_ms.unwrap_or(MAX_DURATION_MS))
    }

    pub(crate) fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    pub(crate) fn nondeterminism(&self) -> PyResult<Nondeterminism> {
        Ok(match self.nondeterminism.parse()? {
            OnMismatch::Wait => Nondeterminism::Wait,
            OnMismatch::Fail => Nondeterminism::Fail,
        })
    }

    pub(crate) fn strict(&self) -> bool {
        self.strict
    }

    /// How long instances stay after they have ended; `None` is for ever.
    pub(crate) fn retention(&self) -> Option<Duration> {
        self.retention_ms.map(Duration::from_millis)
    }

    /// How many suspended orchestrations stay awake; `None` if none does.
    pub(crate) fn sticky_room(&self) -> Option<CacheLimits> {
        self.sticky.then(|| CacheLimits {
            orchestrations: self.max_sticky_orchestrations,
            bytes: self.max_sticky_bytes,
            idle: Duration::from_millis(self.sticky_idle_timeout_ms),
        })
    }

    /// Applies what concerns the logs of this process.
    pub(crate) fn configure_logging(&self) -> PyResult<()> {
        if let Some(level) = &self.log_level {
            logging::set_level(level)?;
        }
        if let Some(format) = &self.log_format {
            logging::set_format(format)?;
        }
        if self.service_name.is_some() || self.service_version.is_some() {
            logging::set_service(self.service_name.as_deref(), self.service_version.as_deref());
        }
        Ok(())
    }

    /// Cancellation is noticed when a lock is renewed, so locks are renewed at half their time.
    fn worker_lock_renewal_buffer(&self) -> Duration {
        Duration::from_millis(self.worker_lock_renewal_buffer_ms.unwrap_or(self.worker_lock_timeout_ms / 2))
    }

    /// How many sessions the runtime may hold.
    pub(crate) fn max_sessions(&self) -> usize {
        self.max_sessions_per_runtime
    }

    /// Whether a runtime that is started later continues as the same node.
    pub(crate) fn has_node_id(&self) -> bool {
        self.worker_node_id.is_some()
    }

    pub(crate) fn engine(&self) -> PyResult<EngineOptions> {
        Ok(EngineOptions {
            dispatcher_min_poll_interval: self.poll_interval(),
            dispatcher_long_poll_timeout: Duration::from_millis(self.dispatcher_long_poll_timeout_ms),
            orchestration_concurrency: self.orchestration_concurrency,
            worker_concurrency: self.worker_concurrency,
            orchestrator_lock_timeout: Duration::from_millis(self.orchestrator_lock_timeout_ms),
            orchestrator_lock_renewal_buffer: Duration::from_millis(self.orchestrator_lock_renewal_buffer_ms),
            worker_lock_timeout: Duration::from_millis(self.worker_lock_timeout_ms),
            worker_lock_renewal_buffer: self.worker_lock_renewal_buffer(),
            // Logging is ours: the engine's own would print to stdout.
            max_attempts: self.max_attempts,
            activity_cancellation_grace_period: Duration::from_millis(self.activity_cancellation_grace_period_ms),
            session_lock_timeout: Duration::from_millis(self.session_lock_timeout_ms),
            session_lock_renewal_buffer: Duration::from_millis(self.session_lock_renewal_buffer_ms),
            session_idle_timeout: Duration::from_millis(self.session_idle_timeout_ms),
            session_cleanup_interval: Duration::from_millis(self.session_cleanup_interval_ms),
            // The stores hold the limit, and lease no session beyond it. The engine's own limit would give leased work
            // back, and stop the slots from looking for sessions until their long poll ends.
            max_sessions_per_runtime: usize::MAX,
            worker_node_id: self.worker_node_id.clone(),
            worker_tag_filter: self.worker_tag_filter.filter()?,
            ..EngineOptions::default()
        })
    }
}
