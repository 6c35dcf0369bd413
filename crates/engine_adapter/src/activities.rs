//! Activities: fetched with their lock token, refused if no runtime has their code, and ended with their result.

use std::sync::Arc;
use std::time::Duration;

use duroxide::AppErrorKind;
use duroxide::providers::{SessionFetchConfig, TagFilter, WorkItem};
use store::operations::{EngineOperations as _, FetchedActivity};
use store::retry::{RetryLimit, RetryState};
use store::{Failure, FailureKind, Result, retrying};
use tokio::time::Instant;

use crate::attempt_header::AttemptHeader;
use crate::cancellation::{activities_asked_to_end, ended_before_it_began};
use crate::dispatcher::{Beginning, Dispatcher, LONGEST_POLL, listed};
use crate::metrics::{Counters, add};
use crate::process::WithoutCode;
use crate::refusals::failed_activity;
use crate::running_activities::{RunningActivity, join_token};
use store::terminal_commit::not_registered;

/// Activities of the engine itself: their input is the engine's.
const BUILT_IN: &str = "__duroxide_syscall:";

impl Dispatcher {
    pub async fn next_activity(
        &self,
        lock_timeout: Duration,
        deadline: Instant,
        session: Option<&SessionFetchConfig>,
        tags: &TagFilter,
    ) -> Option<FetchedActivity> {
        if *tags == TagFilter::None {
            self.rest(LONGEST_POLL, deadline).await;
            return None;
        }
        if let Some(session) = session {
            self.shared.backend().session_limits().apply(&self.session_limit, &session.owner_id);
        }
        let provider = self.shared.backend();
        let fetch = |rest| provider.fetch_work_item(lock_timeout, rest, session, tags);
        loop {
            let fetched = self.find("fetch_work_item", deadline, &fetch).await?;
            if let Some(taken) = self.take_activity_on(fetched, lock_timeout).await {
                return Some(taken);
            }
        }
    }

    /// Registers the fetched activity; `None` if this runtime does not run it.
    async fn take_activity_on(
        &self,
        (item, token, attempt): FetchedActivity,
        lock_timeout: Duration,
    ) -> Option<FetchedActivity> {
        self.leased_activities.lock().insert(token.clone());
        add(&self.counters.worker_dispatcher_items_fetched);
        match self.beginning_of(&token, attempt, lock_timeout).await {
            Beginning::Now => {}
            Beginning::Later(pause) => {
                // If this fails, the lease ends by itself.
                let _ = self.leave_activity(&token, pause).await;
                return None;
            }
            // The end of the runtime gives the lease back.
            Beginning::Never => return None,
        }
        match self.accept(item, &token, attempt) {
            Ok(item) if self.is_asked_to_end(&token).await => {
                self.end_before_it_begins(&item, &token).await;
                None
            }
            Ok(item) => Some((item, token, attempt)),
            Err(refused) => {
                self.refuse(&refused, &token).await;
                None
            }
        }
    }

    /// Registers the activity as running, or gives it back if this runtime cannot run it.
    fn accept(&self, mut item: WorkItem, token: &str, attempt: u32) -> Result<WorkItem, Box<WorkItem>> {
        let WorkItem::ActivityExecute { instance, execution_id, id, name, input, .. } = &mut item else {
            return Ok(item);
        };
        if name.starts_with(BUILT_IN) {
            return Ok(item);
        }
        if !self.settings.activities.contains(name.as_str()) {
            return Err(Box::new(item));
        }
        self.shared.waiting_activities.clear(&(instance.clone(), *execution_id, *id));
        // Poison is reported by the engine with the item as it was scheduled, and runs nowhere.
        if attempt <= self.settings.max_attempts {
            let end_key = AttemptHeader::split(input).0.and_then(|header| header.end_key);
            let running = RunningActivity::new(instance.clone(), *execution_id, *id, attempt, name.clone());
            let running = running.with_end_key(end_key);
            self.shared.running_activities.insert(token, running);
            *input = join_token(token, input);
        }
        Ok(item)
    }

    /// Whether its orchestration has asked a running activity to end, in a commit that this process may not have seen.
    pub async fn is_asked_to_end(&self, token: &str) -> bool {
        let Some(running) = self.shared.running_activities.get(token) else { return false };
        let Some(key) = running.end_key else { return false };
        let history = self.view.read_with_execution(&running.instance, running.execution_id).await;
        history.is_ok_and(|history| activities_asked_to_end(&history).any(|asked| asked == key))
    }

    async fn end_before_it_begins(&self, item: &WorkItem, token: &str) {
        let WorkItem::ActivityExecute { instance, execution_id, id, .. } = item else { return };
        let (instance, details) = (instance.clone(), ended_before_it_began());
        let failed = WorkItem::ActivityFailed { instance, execution_id: *execution_id, id: *id, details };
        // If this fails, the lease ends by itself, and the activity is fetched again.
        let _ = self.end_activity(token, Some(failed)).await;
    }

    async fn refuse(&self, item: &WorkItem, token: &str) {
        let WorkItem::ActivityExecute { instance, execution_id, id, name, .. } = item else { return };
        let key = (instance.clone(), *execution_id, *id);
        let has_it = self.shared.some_dispatcher(|other| other.activities.contains(name));
        let waiting = &self.shared.waiting_activities;
        let message = format!(
            "activity '{name}' is not registered with this runtime; registered are: {}",
            listed(self.settings.activities.iter())
        );
        let pause = match self.shared.without_code(waiting, &key, has_it, self.settings.unregistered) {
            WithoutCode::Fail => None,
            WithoutCode::Leave(pause) => Some(pause),
            WithoutCode::Wait => {
                let report = format!(
                    "instance '{instance}' waits: {message}; register it and start the runtime again, or cancel the \
                     instance"
                );
                let (pause, is_new) = waiting.postpone(&key, &report);
                if is_new {
                    tracing::warn!(target: "duroxide::runtime", instance = %instance, activity_name = %name, "{report}");
                    self.shared.watches.notify(instance);
                }
                Some(pause)
            }
        };
        if let Some(pause) = pause {
            // If this fails, the lease ends by itself.
            let _ = self.leave_activity(token, pause).await;
            return;
        }
        let failed = WorkItem::ActivityFailed {
            instance: instance.clone(),
            execution_id: *execution_id,
            id: *id,
            details: not_registered(AppErrorKind::ActivityFailed, &message),
        };
        // The recorded failure is one of the application, as in the engine. It is counted as what it is.
        let count = |counters: &Counters, _: &WorkItem| add(&counters.activity_config_errors);
        if self.end_counted(token, Some(failed), count).await.is_ok() {
            waiting.clear(&key);
        }
    }

    pub async fn end_activity(&self, token: &str, completion: Option<WorkItem>) -> Result<()> {
        self.end_counted(token, completion, Counters::committed_activity).await
    }

    async fn end_counted(
        &self,
        token: &str,
        completion: Option<WorkItem>,
        count: impl Fn(&Counters, &WorkItem),
    ) -> Result<()> {
        let backend = self.shared.backend();
        let mut retry = RetryState::new(RetryLimit::Lease);
        let _in_flight = self.commits.begin();
        let outcome = retrying!(
            self.shared.availability(),
            "ack_work_item",
            &mut retry,
            backend.ack_work_item(token, completion.clone())
        );
        let running = self.end_run(token);
        self.forget_activity_unless_leased(token, &outcome);
        match outcome {
            // The row is gone, and the answer to an earlier attempt was lost: most likely that attempt removed the row.
            Err(failure) if failure.is_lock_lost() && retry.ambiguous => {}
            Err(failure) if failure.is_lock_lost() => {
                // The result is not wanted: the activity was cancelled, or another node runs it. The engine can do
                // nothing about it.
                if !running.is_some_and(|running| running.is_cancelled()) {
                    tracing::info!(target: "duroxide::runtime", "the lease of an activity ended before its code did; its result is not recorded");
                }
                return Ok(());
            }
            Err(failure) if failure.kind == FailureKind::Refused => {
                // Another run of the code would end in the same way.
                let Some(failed) = completion.as_ref().and_then(|completion| failed_activity(completion, &failure))
                else {
                    return Err(failure);
                };
                backend.ack_work_item(token, Some(failed)).await?;
                self.leased_activities.lock().remove(token);
            }
            Err(failure) => return Err(failure),
            Ok(()) => {}
        }
        if let Some(completion) = completion {
            count(&self.counters, &completion);
        }
        Ok(())
    }

    pub async fn abandon_activity(&self, token: &str, delay: Option<Duration>, ignore_attempt: bool) -> Result<()> {
        self.end_run(token);
        let outcome = self.view.abandon_work_item(token, delay, ignore_attempt).await;
        self.forget_activity_unless_leased(token, &outcome);
        outcome
    }

    /// Forgets an activity that was given back. If that failed, or was cut off, the lease is given back when the runtime
    /// ends.
    fn forget_activity_unless_leased(&self, token: &str, given_back: &Result<()>) {
        if given_back.as_ref().err().is_none_or(Failure::is_lock_lost) {
            self.leased_activities.lock().remove(token);
        }
    }

    /// Notes that the code of an activity does not run any more, or does not begin.
    fn end_run(&self, token: &str) -> Option<Arc<RunningActivity>> {
        self.shared.suspects.end(token);
        self.shared.running_activities.remove(token)
    }

    /// Leaves an activity to the runtimes that can run it, for at most `pause`.
    async fn leave_activity(&self, token: &str, pause: Duration) -> Result<()> {
        self.end_run(token);
        let backend = self.shared.backend();
        let mut retry = RetryState::new(RetryLimit::CallerOnce);
        let outcome = retrying!(
            self.shared.availability(),
            "abandon_work_item",
            &mut retry,
            backend.leave_activity(token, pause)
        );
        self.forget_activity_unless_leased(token, &outcome);
        outcome
    }
}
