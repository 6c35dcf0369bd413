//! Activities: handed out with their lock token, refused where nobody has their code, taken back with their result.

use std::time::Duration;

use duroxide::AppErrorKind;
use duroxide::providers::{Provider as _, SessionFetchConfig, TagFilter, WorkItem};
use tokio::time::Instant;

use super::{Dispatcher, LONGEST_POLL, Outcome, listed};
use crate::store::backend::patiently;
use crate::store::claim;
use crate::store::clock::after_ms;
use crate::store::delivery::{Delivery, join_delivery};
use crate::store::ending::not_registered;
use crate::store::failure::{Patience, Retry, lock_lost};
use crate::store::metrics::add;

type Fetched = (WorkItem, String, u32);
type Claimed = (WorkItem, String, u32, Option<claim::Claim>);

/// Activities of the engine itself: their input is the engine's.
const BUILT_IN: &str = "__duroxide_syscall:";

impl Dispatcher {
    pub(super) async fn next_activity(
        &self,
        lock_timeout: Duration,
        deadline: Instant,
        session: Option<&SessionFetchConfig>,
        tags: &TagFilter,
    ) -> Option<Fetched> {
        if *tags == TagFilter::None {
            self.rest(LONGEST_POLL, deadline).await;
            return None;
        }
        let (backend, lane) = (&self.shared.backend, &self.signals.activities);
        let wakes_fetches = backend.wakes_fetches();
        let mut failures = 0;
        let mut unasked = !wakes_fetches && lane.looks_unasked();
        loop {
            let (fetched, permit): (Outcome<Option<Claimed>>, _) = if wakes_fetches {
                let fetch = async |rest| {
                    let fetched = backend.provider.fetch_work_item(lock_timeout, rest, session, tags).await?;
                    Ok(fetched.map(|(item, token, attempt)| (item, token, attempt, None)))
                };
                (self.wait_for("fetch_work_item", deadline, fetch).await?, None)
            } else {
                let permit = if std::mem::take(&mut unasked) { None } else { Some(self.permit(lane, deadline).await?) };
                (claim::activity(&self.shared, lock_timeout, session, tags).await, permit)
            };
            match fetched {
                Ok(Some((item, token, attempt, claim))) => {
                    drop(permit);
                    failures = 0;
                    self.recovered(lane);
                    if let Some(fetched) = self.take_activity_on((item, token, attempt), claim).await {
                        return Some(fetched);
                    }
                }
                Ok(None) => {
                    if let Some(permit) = permit {
                        permit.forget();
                    }
                    failures = 0;
                    self.recovered(lane);
                }
                Err(error) => {
                    self.endure(&error, failures, lane, deadline).await;
                    failures += 1;
                    drop(permit);
                }
            }
        }
    }

    /// Registers what was fetched; `None` when this runtime does not run it.
    async fn take_activity_on(&self, (item, token, attempt): Fetched, claim: Option<claim::Claim>) -> Option<Fetched> {
        add(&self.counters.worker_dispatcher_items_fetched);
        let accepted = match self.accept(item, &token, attempt) {
            Ok(item) => {
                if matches!(&item, WorkItem::ActivityExecute { session_id: Some(_), .. }) {
                    self.signals.activities.mark_session_slot();
                }
                Some((item, token, attempt))
            }
            Err(refused) => {
                self.refuse(&refused, &token).await;
                None
            }
        };
        if let Some(claim) = claim {
            claim.settled();
        }
        accepted
    }

    /// Registers the delivery, or gives back what this runtime cannot run.
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
        // Poison is reported by the engine with the item as it was scheduled, and runs nowhere.
        if attempt <= self.settings.max_attempts {
            let delivery = Delivery::new(instance.clone(), *execution_id, *id, attempt, name.clone());
            self.shared.deliveries.insert(token, delivery);
            *input = join_delivery(token, input);
        }
        Ok(item)
    }

    async fn refuse(&self, item: &WorkItem, token: &str) {
        let WorkItem::ActivityExecute { instance, execution_id, id, name, .. } = item else { return };
        let key = format!("activity {id} of execution {execution_id} of {instance}");
        let has_it = self.shared.some_dispatcher(|other| other.activities.contains(name));
        if let Some(pause) = self.shared.leave_to_others(&key, has_it, self.settings.unregistered_timeout) {
            // If this fails, the lease ends by itself.
            let _ = self.abandon_activity(token, Some(pause), true).await;
            return;
        }
        let message = format!(
            "activity '{name}' is not registered with this runtime; registered are: {}",
            listed(self.settings.activities.iter())
        );
        let failed = WorkItem::ActivityFailed {
            instance: instance.clone(),
            execution_id: *execution_id,
            id: *id,
            details: not_registered(AppErrorKind::ActivityFailed, &message),
        };
        if self.end_activity(token, Some(failed)).await.is_ok() {
            self.shared.waiting.clear(&key);
        }
    }

    pub(super) async fn end_activity(&self, token: &str, completion: Option<WorkItem>) -> Outcome<()> {
        let backend = &self.shared.backend;
        let mut retry = Retry::new(Patience::Lease);
        let outcome =
            patiently!(backend, "ack_work_item", &mut retry, backend.provider.ack_work_item(token, completion.clone()));
        let delivery = self.shared.deliveries.remove(token);
        match outcome {
            // Its result is not wanted, as both sides know: nothing that the engine should warn of.
            Err(error) if lock_lost(&error) && delivery.is_some_and(|delivery| delivery.is_cancelled()) => {
                return Ok(());
            }
            // The row is gone, and the answer of an earlier attempt was lost: most likely that one took it away. If it was
            // not, another node runs the activity, and there is nothing to be done here either.
            Err(error) if !(retry.ambiguous && lock_lost(&error)) => return Err(error),
            _ => {}
        }
        if let Some(completion) = completion {
            self.counters.committed_activity(&completion);
            if let Some(instance) = crate::store::shared::target(&completion) {
                self.shared.wake.orchestration(instance);
            }
        }
        Ok(())
    }

    pub(super) async fn abandon_activity(
        &self,
        token: &str,
        delay: Option<Duration>,
        ignore_attempt: bool,
    ) -> Outcome<()> {
        self.shared.deliveries.remove(token);
        let outcome = self.view.abandon_work_item(token, delay, ignore_attempt).await;
        match delay {
            Some(delay) => self.shared.wake.activities_at(after_ms(delay)),
            // It may belong to a session, and so to one slot.
            None => self.shared.wake.activities(true),
        }
        outcome
    }
}
