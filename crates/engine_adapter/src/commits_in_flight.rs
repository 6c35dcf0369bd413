//! The commits that are under way. A commit may be visible in the store before the dispatcher has counted it, so a reader
//! of the counters waits for the commits that began before it.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Default)]
pub struct CommitsInFlight {
    numbers: Mutex<Numbers>,
    ended: Notify,
}

#[derive(Default)]
struct Numbers {
    next: u64,
    under_way: BTreeSet<u64>,
}

/// A commit that is under way, and not yet counted. It ends when this is dropped.
pub struct CommitInFlight<'a> {
    commits: &'a CommitsInFlight,
    number: u64,
}

impl CommitsInFlight {
    pub fn begin(&self) -> CommitInFlight<'_> {
        let mut numbers = self.numbers.lock();
        let number = numbers.next;
        numbers.next += 1;
        numbers.under_way.insert(number);
        CommitInFlight { commits: self, number }
    }

    /// Waits until every commit has ended that is under way now.
    pub async fn settle(&self) {
        let next = self.numbers.lock().next;
        loop {
            // The wait begins before the look, so that no end falls between the two.
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.numbers.lock().under_way.range(..next).next().is_none() {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for CommitInFlight<'_> {
    fn drop(&mut self) {
        self.commits.numbers.lock().under_way.remove(&self.number);
        self.commits.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_reader_waits_for_the_commits_that_began_before_it() {
        let commits = CommitsInFlight::default();
        let first = commits.begin();

        assert!(timeout(Duration::ZERO, commits.settle()).await.is_err());
        drop(first);
        commits.settle().await;
    }

    #[tokio::test]
    async fn a_reader_does_not_wait_for_commits_that_begin_after_it() {
        let commits = CommitsInFlight::default();
        let first = commits.begin();
        let mut settled = std::pin::pin!(commits.settle());
        assert!(timeout(Duration::ZERO, settled.as_mut()).await.is_err());

        let _later = commits.begin();
        drop(first);

        settled.await;
    }
}
