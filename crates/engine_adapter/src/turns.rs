//! Turns: fetched, taken on, and committed or given back.

use std::sync::Arc;
use std::time::Duration;

use duroxide::providers::DispatcherCapabilityFilter;
use store::operations::{EngineOperations as _, FetchedTurn};
use store::retry::{RetryLimit, RetryState};
use store::turn_commit::TurnCommit;
use store::work_item::can_be_waited_for;
use store::{Failure, FailureKind, Result, operation_name, retrying};
use tokio::time::Instant;

use crate::admission::Admission;
use crate::cancellation;
use crate::cancellation::activities_asked_to_end;
use crate::dispatcher::{Beginning, Dispatcher};
use crate::held_turns::HeldTurn;
use crate::metrics::add;
use crate::nondeterminism::report::TurnMismatch;
use crate::turn_record::TurnRecord;
use store::history::ended;
use store::terminal_commit::make_catchable;

use crate::turn_commit::{complete, leaves_suspended};

impl Dispatcher {
    pub async fn next_turn(
        &self,
        lock_timeout: Duration,
        deadline: Instant,
        filter: Option<&DispatcherCapabilityFilter>,
    ) -> Option<FetchedTurn> {
        if let Some(token) = self.turns.forget_task() {
            // The engine gives up a turn whose end it could not record, without giving the lease back.
            let _ = self.abandon_turn(&token, None, true).await;
        }
        let provider = self.shared.backend();
        let fetch = |rest| provider.fetch_orchestration_item(lock_timeout, rest, filter);
        loop {
            let fetched = self.find("fetch_orchestration_item", deadline, &fetch).await?;
            if let Some(taken) = self.take_on(fetched, lock_timeout).await {
                return Some(taken);
            }
        }
    }

    /// Publishes the fetched turn; `None` if this runtime does not run it.
    async fn take_on(&self, (mut item, token, attempt): FetchedTurn, lock_timeout: Duration) -> Option<FetchedTurn> {
        add(&self.counters.orch_dispatcher_items_fetched);
        match self.beginning_of(&token, attempt, lock_timeout).await {
            Beginning::Now => {}
            // If one of these fails, the lease ends by itself.
            Beginning::Later(pause) => {
                let _ = self.leave_turn(&token, pause).await;
                return None;
            }
            Beginning::Never => {
                let _ = self.abandon_turn(&token, None, true).await;
                return None;
            }
        }
        let mut admission = self.admit(&item, attempt);
        item.messages.iter_mut().for_each(make_catchable);
        let requested = cancellation::requested(&item.messages).map(str::to_owned);
        if matches!(admission, Admission::Run) && cancellation::is_subscribed(&item.history) {
            cancellation::deliver(&item.history, &mut item.messages);
        }
        self.shared.descriptors.remember(&item.history);
        let record = TurnRecord::new(&item, attempt, self.suspended_turns.get().map(Arc::as_ref));
        self.shared.backend().extend_lease_while_running(&token, &record.code_time);
        self.turns.publish(&token, &item, record, requested);
        // If one of these fails, the instance stays locked until its lease ends, and is fetched again.
        match &mut admission {
            Admission::Run => {}
            Admission::End(terminal) => _ = self.end_turn(&token, std::mem::take(&mut **terminal).into()).await,
            Admission::PutOff { delay } => _ = self.leave_turn(&token, *delay).await,
            Admission::Wait { report } => {
                let instance = &item.instance;
                let (delay, news) = self.shared.waiting.postpone(instance, report);
                if news {
                    tracing::warn!(target: "duroxide::runtime", instance = %instance, "{report}");
                }
                self.note_mismatch(instance, report, news).await;
                let _ = self.leave_turn(&token, delay).await;
            }
        }
        matches!(admission, Admission::Run).then_some((item, token, attempt))
    }

    pub async fn end_turn(&self, token: &str, mut commit: TurnCommit) -> Result<()> {
        // After a lost lock the engine acknowledges a failure with the same token: it must never get through.
        let Some(held) = self.turns.get(token) else {
            let operation = operation_name!(commit_turn);
            return Err(Failure::lock_lost(operation, "Invalid lock token: the turn has ended"));
        };
        let mismatch = TurnMismatch::of(&commit.delta, &held.record);
        // Only a turn that was replayed from the beginning proves a mismatch. Here the suspended state may be to blame.
        let unproven = mismatch.is_some() && held.record.suspended.is_resumed();
        if let Some(report) = held.record.suspended.stale().or(unproven.then_some("its code did not match its history"))
        {
            self.replay_again(token, &held, report).await;
            return Ok(());
        }
        if let Some(mismatch) = mismatch {
            let Some(terminal) = self.end_mismatched(&held, &mismatch).await else {
                self.put_off_mismatch(token, &held, &mismatch).await;
                return Ok(());
            };
            commit = terminal.into();
        }
        complete(&mut commit, &held);
        let commit = Arc::new(commit);
        let (suspended_turns, descriptors) = (self.suspended_turns.get(), &self.shared.descriptors);
        // Before the commit, since the next turn and the activities may be fetched right after it.
        descriptors.remember(&commit.delta);
        if let Some(suspended_turns) = suspended_turns
            && leaves_suspended(&commit, &held)
            && let Some(suspended) = held.record.suspended_turn(&commit.delta)
        {
            suspended_turns.keep(suspended);
        }
        let _in_flight = self.commits.begin();
        let outcome = self.commit(token, &held, &commit).await;
        if outcome.is_err() || ended(&commit.delta) {
            descriptors.forget(&held.record.instance);
        }
        if let Some(suspended_turns) = suspended_turns
            && outcome.is_err()
        {
            drop(suspended_turns.take(&held.record.instance));
        }
        match &outcome {
            Ok(()) => self.committed(token, &held, &commit),
            Err(failure) if failure.is_lock_lost() => {
                // Another node continues the instance. The engine would record a failure, which the store would refuse.
                let instance = &held.record.instance;
                tracing::info!(target: "duroxide::runtime", instance = %instance, "the lease of a turn ended before its code did; it runs again");
                self.forget_turn(token);
                return Ok(());
            }
            Err(failure) if failure.kind == FailureKind::Obstructed => {
                self.wait_for_operator(token, &held, failure).await;
                return Ok(());
            }
            Err(failure) if failure.kind == FailureKind::Refused && self.shared.backend().is_at_work() => {
                return self.end_refused(token, &held, &commit, failure).await;
            }
            // The engine now records why, with the same token.
            Err(_) => {}
        }
        outcome
    }

    pub async fn commit(&self, token: &str, held: &HeldTurn, commit: &Arc<TurnCommit>) -> Result<()> {
        let backend = self.shared.backend();
        let mut retry = RetryState::new(RetryLimit::Slot);
        let outcome = retrying!(
            self.shared.availability(),
            operation_name!(commit_turn),
            &mut retry,
            backend.commit_turn(token, Arc::clone(commit))
        );
        match outcome {
            Err(error) if retry.ambiguous => {
                if self.was_applied(&held.record.instance, commit).await {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            outcome => outcome,
        }
    }

    /// Whether a commit whose answer was lost is in the history.
    async fn was_applied(&self, instance: &str, commit: &TurnCommit) -> bool {
        let Some(last) = commit.delta.last() else { return true };
        match self.view.read_with_execution(instance, commit.execution_id).await {
            Ok(history) => history.iter().any(|event| event == last),
            Err(_) => false,
        }
    }

    /// Informs all parts of this process that the commit concerns. Nothing here waits.
    pub fn committed(&self, token: &str, held: &HeldTurn, commit: &TurnCommit) {
        let shared = &self.shared;
        let instance = held.record.instance.as_str();
        self.forget_turn(token);
        self.counters.committed_turn(commit.execution_id, &commit.delta);
        shared.waiting.clear(instance);
        shared.obstructed.clear(instance);
        shared.running_activities.cancel(&commit.cancelled);
        for key in activities_asked_to_end(&commit.delta) {
            shared.running_activities.ask_to_end(instance, commit.execution_id, key);
        }
        // On a server each look is a query, so a commit wakes the waits only if it changes something that they wait
        // for.
        if shared.backend().traits().cheap_looks || can_be_waited_for(&commit.metadata, &commit.delta) {
            shared.watches.notify(instance);
        }
    }

    fn forget_turn(&self, token: &str) {
        self.shared.suspects.end(token);
        self.turns.remove(token);
    }

    pub async fn abandon_turn(&self, token: &str, delay: Option<Duration>, ignore_attempt: bool) -> Result<()> {
        let outcome = self.view.abandon_orchestration_item(token, delay, ignore_attempt).await;
        self.forget_unless_leased(token, &outcome);
        outcome
    }

    /// Leaves an instance to the runtimes that can run it, for at most `pause`.
    pub async fn leave_turn(&self, token: &str, pause: Duration) -> Result<()> {
        let backend = self.shared.backend();
        let mut retry = RetryState::new(RetryLimit::CallerOnce);
        let outcome = retrying!(
            self.shared.availability(),
            "abandon_orchestration_item",
            &mut retry,
            backend.leave_turn(token, pause)
        );
        self.forget_unless_leased(token, &outcome);
        outcome
    }

    /// Forgets a turn that was given back. If that failed, the lease is given back when the runtime ends.
    fn forget_unless_leased(&self, token: &str, given_back: &Result<()>) {
        self.shared.suspects.end(token);
        if given_back.as_ref().err().is_none_or(Failure::is_lock_lost) {
            self.turns.remove(token);
        }
    }
}
