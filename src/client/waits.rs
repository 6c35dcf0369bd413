//! Waiting for an instance. A commit of this process ends a wait at once; a poll beside it sees those of others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use crate::boundary::errors::Error;
use crate::client::open_store::OpenStore;
use crate::client::records::StatusRecord;
use crate::client::status::{has_ended, shown};
use store::error::StoreError;

/// Longer than any process lives, and short enough to be added to the present.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The time that a read of the store may take after the time of the wait has passed, since a wait of 0 ms reads too.
const LOOK: Duration = Duration::from_secs(1);

const FIRST_POLL: Duration = Duration::from_millis(5);
const SLOWEST_POLL: Duration = Duration::from_millis(100);
/// Every change wakes the wait. One read a second limits the harm of a lost wake-up.
const SAFETY_POLL: Duration = Duration::from_secs(1);

/// The times between two looks, where nothing tells of changes.
struct PollDelays {
    next: Duration,
    slowest: Duration,
}

impl PollDelays {
    fn slowing() -> Self {
        Self { next: FIRST_POLL, slowest: SLOWEST_POLL }
    }

    fn next(&mut self) -> Duration {
        let next = self.next;
        self.next = (next * 2).min(self.slowest);
        next
    }
}

impl OpenStore {
    pub(super) async fn wait(&self, instance: &str, timeout_ms: u64) -> Result<StatusRecord, Error> {
        let existence = Existence::default();
        match self.until(instance, timeout_ms, None, || self.end(instance, &existence)).await? {
            Some(status) => Ok(status),
            None => Err(self.timed_out(instance, timeout_ms, "its end").await),
        }
    }

    async fn end(&self, instance: &str, existence: &Existence) -> Result<Option<StatusRecord>, Error> {
        match self.store.instance_state(instance).await {
            Ok(Some(standing)) if has_ended(&standing.status) => self.status_of(instance, standing).await.map(Some),
            Ok(standing) => existence.note(instance, standing.is_some()).map(|()| None),
            Err(error) => Err(Error::Store(error)),
        }
    }

    /// `None` when the time has passed, or when the instance has ended and nothing newer can come.
    pub(super) async fn wait_for_status_change(
        &self,
        instance: &str,
        last_seen_version: u64,
        poll_interval_ms: u64,
        timeout_ms: u64,
    ) -> Result<Option<StatusRecord>, Error> {
        let interval = Duration::from_millis(poll_interval_ms.max(1)).min(LONGEST_WAIT);
        let polls = PollDelays { next: interval, slowest: interval };
        let existence = Existence::default();
        let look = || self.newer(instance, last_seen_version, &existence);
        let status = self.until(instance, timeout_ms, Some(polls), look).await?;
        Ok(status.filter(|status| status.custom_status_version > last_seen_version))
    }

    /// A status that is newer, or the last one that there will be.
    async fn newer(
        &self,
        instance: &str,
        last_seen_version: u64,
        existence: &Existence,
    ) -> Result<Option<StatusRecord>, Error> {
        let status = self.status(instance).await?;
        existence.note(instance, status.exists())?;
        Ok((status.custom_status_version > last_seen_version || status.has_ended()).then_some(status))
    }

    pub(super) async fn wait_for_kv_value(&self, instance: &str, key: &str, timeout_ms: u64) -> Result<String, Error> {
        let existence = Existence::default();
        match self.until(instance, timeout_ms, None, || self.key(instance, key, &existence)).await? {
            Some(value) => Ok(value),
            None => Err(self.timed_out(instance, timeout_ms, &format!("its key '{key}'")).await),
        }
    }

    async fn key(&self, instance: &str, key: &str, existence: &Existence) -> Result<Option<String>, Error> {
        let value = self.kv_value(instance, key).await?;
        if value.is_none() {
            existence.note(instance, self.store.instance_state(instance).await?.is_some())?;
        }
        Ok(value)
    }

    /// Looks until `look` finds something; `None` when the time has passed first. Without `polls` it looks after a change, and
    /// as often as it must where changes do not wake it.
    async fn until<T, Look>(
        &self,
        instance: &str,
        timeout_ms: u64,
        mut polls: Option<PollDelays>,
        look: impl Fn() -> Look,
    ) -> Result<Option<T>, Error>
    where
        Look: Future<Output = Result<Option<T>, Error>>,
    {
        let deadline = Instant::now() + Duration::from_millis(timeout_ms).min(LONGEST_WAIT);
        // Made before the first look, so that no commit falls between a look and the pause after it.
        let mut watch = self.adapter.watch(instance);
        loop {
            match timeout_at(deadline.max(Instant::now() + LOOK), look()).await {
                Ok(Ok(Some(found))) => return Ok(Some(found)),
                Ok(Err(error)) if !passes(&error) => return Err(error),
                // Nothing yet, or the store does not answer.
                _ => {}
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            // Whether a commit or the poll ended the pause, the next look tells what there is.
            let pause = match &mut polls {
                None if self.adapter.reports_all_changes() => SAFETY_POLL,
                polls => polls.get_or_insert_with(PollDelays::slowing).next(),
            };
            let _ = timeout_at(deadline.min(now + pause), watch.changed()).await;
        }
    }

    async fn timed_out(&self, instance: &str, timeout_ms: u64, expected: &str) -> Error {
        let mut mismatch = timeout(LOOK, self.adapter.mismatch(instance)).await.ok().flatten();
        let known = match timeout(LOOK, self.info(instance)).await {
            Ok(Ok(info)) => match timeout(LOOK, self.adapter.waiting_start(instance)).await {
                Ok(Ok(Some(_))) => {
                    mismatch = mismatch.or_else(|| self.adapter.why_start_waits(instance));
                    format!("instance '{instance}' has not begun: no runtime has run its first turn")
                }
                _ => format!("instance '{instance}' is {}", shown(&info.status)),
            },
            Ok(Err(Error::NotFound(_))) => format!("instance '{instance}' does not exist"),
            _ => format!("the store of instance '{instance}' does not answer"),
        };
        let mismatch = mismatch.map(|report| format!(": {report}")).unwrap_or_default();
        Error::TimedOut(format!("{known}; waited {timeout_ms} ms for {expected}{mismatch}"))
    }
}

/// Whether a wait has seen its instance. An instance that was not seen may be started later. One that was seen, and does
/// not exist any more, was deleted.
#[derive(Default)]
struct Existence(AtomicBool);

impl Existence {
    fn note(&self, instance: &str, exists: bool) -> Result<(), Error> {
        let was_seen = self.0.swap(exists, Ordering::Relaxed);
        if was_seen && !exists { Err(Error::Deleted(instance.to_owned())) } else { Ok(()) }
    }
}

/// Whether waiting on may help.
fn passes(error: &Error) -> bool {
    match error {
        Error::Store(StoreError::Failed(failure)) => failure.is_transient(),
        Error::Store(StoreError::Unavailable(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_slow_down_to_a_tenth_of_a_second() {
        let mut polls = PollDelays::slowing();

        let times: Vec<_> = (0..7).map(|_| polls.next().as_millis()).collect();

        assert_eq!(times, [5, 10, 20, 40, 80, 100, 100]);
    }

    #[test]
    fn longest_wait_can_be_added_to_the_present() {
        assert!(Instant::now().checked_add(Duration::from_millis(u64::MAX).min(LONGEST_WAIT)).is_some());
    }
}
