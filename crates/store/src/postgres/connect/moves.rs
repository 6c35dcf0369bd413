//! The moves of a store from one server to another, as the work on a server sees them.
//!
//! A server that is gone may end no connection, so the work on it would wait for its answer for ever. Work that waits
//! for long reports a doubt, which lets the follower look at the servers. If the store moves, all work on the former
//! server ends without an answer. A store that stays with one server has none of this.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnection, PgPoolOptions};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use crate::error::Result;
use crate::failure::Failure;

/// How long work waits for the server before it reports a doubt. The time doubles with each report.
const FIRST_DOUBT: Duration = Duration::from_secs(3);

/// Shared by all tasks of a store.
#[derive(Clone, Default)]
pub struct Moves(Option<Arc<Movable>>);

struct Movable {
    /// The number of moves.
    count: watch::Sender<u64>,
    /// The time of the last move. Older connections lead to the former server.
    last: Mutex<Option<Instant>>,
    doubts: Notify,
}

impl Moves {
    /// The moves of a store that may move.
    pub fn possible() -> Self {
        let movable = Movable { count: watch::channel(0).0, last: Mutex::default(), doubts: Notify::new() };
        Self(Some(Arc::new(movable)))
    }

    /// Reports that another server may be the right one now.
    pub fn doubt(&self) {
        if let Some(movable) = &self.0 {
            movable.doubts.notify_one();
        }
    }

    /// Waits for a doubt.
    pub async fn doubted(&self) {
        match &self.0 {
            Some(movable) => movable.doubts.notified().await,
            None => pending().await,
        }
    }

    /// Notes that new connections lead to another server from now on.
    pub fn note(&self) {
        if let Some(movable) = &self.0 {
            *movable.last.lock() = Some(Instant::now());
        }
    }

    /// Ends all work on the former server.
    pub fn end_work(&self) {
        if let Some(movable) = &self.0 {
            movable.count.send_modify(|count| *count += 1);
        }
    }

    /// How often the store has moved.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |movable| *movable.count.borrow())
    }

    /// Waits for the next move.
    pub async fn next(&self) {
        let Some(movable) = &self.0 else { return pending().await };
        // The sender lives as long as `self`.
        let _ = movable.count.subscribe().changed().await;
    }

    /// Does work on a server. Returns `None` if the store moved before the work was done; the server may have done it.
    pub async fn unless_moved<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        if self.0.is_none() {
            return Some(work.await);
        }
        let doubting = async {
            let mut pause = FIRST_DOUBT;
            loop {
                sleep(pause).await;
                self.doubt();
                pause *= 2;
            }
        };
        tokio::select! {
            biased;
            // The wait for a move begins before the work, so that no move is missed.
            () = self.next() => None,
            done = work => Some(done),
            never = doubting => never,
        }
    }

    /// Makes one call of a server. A failure that passes is a doubt, too.
    pub async fn answer<T>(&self, operation: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(answer) = self.unless_moved(call).await else {
            return Err(Failure::in_doubt(operation, "the store has moved to another server before this was answered"));
        };
        if answer.as_ref().is_err_and(Failure::is_transient) {
            self.doubt();
        }
        answer
    }

    /// The options of a pool that closes the connections to a former server.
    pub fn pool_options(&self) -> PgPoolOptions {
        if self.0.is_none() {
            return PgPoolOptions::new();
        }
        let (before, after) = (self.clone(), self.clone());
        PgPoolOptions::new()
            .before_acquire(move |_, connection| {
                let leads_on = before.is_current(connection.age);
                Box::pin(async move { Ok(leads_on) })
            })
            // The pool waits without a limit until a connection whose statement was given up can be used again.
            .after_release(move |connection, facts| {
                let (after, age) = (after.clone(), facts.age);
                Box::pin(async move { Ok(after.is_current(age) && after.is_usable(connection).await) })
            })
    }

    async fn is_usable(&self, connection: &mut PgConnection) -> bool {
        matches!(self.unless_moved(connection.ping()).await, Some(Ok(())))
    }

    /// Whether a connection of this age leads to the server in use.
    fn is_current(&self, age: Duration) -> bool {
        self.0.as_ref().and_then(|movable| *movable.last.lock()).is_none_or(|last| age < last.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn work_without_an_answer_ends_with_a_move() {
        let moves = Moves::possible();
        let work = moves.unless_moved(pending::<()>());

        assert_eq!(tokio::join!(work, async { moves.end_work() }).0, None);
    }

    #[tokio::test]
    async fn work_that_waits_for_long_reports_a_doubt_and_is_done() {
        let moves = Moves::possible();

        assert_eq!(moves.unless_moved(moves.doubted()).await, Some(()));
    }

    #[tokio::test]
    async fn failure_that_passes_reports_a_doubt_and_a_refusal_does_not() {
        let moves = Moves::possible();
        let refused = async { Err::<(), _>(Failure::refused("read", "")) };
        assert!(moves.answer("read", refused).await.is_err());
        assert!(timeout(MOMENT, moves.doubted()).await.is_err());

        let lost = async { Err::<(), _>(Failure::in_doubt("read", "")) };
        assert!(moves.answer("read", lost).await.is_err());
        moves.doubted().await;
    }

    #[tokio::test]
    async fn work_of_a_store_with_one_server_is_left_alone() {
        let moves = Moves::default();
        let work = moves.unless_moved(sleep(MOMENT));

        assert_eq!(tokio::join!(work, async { moves.end_work() }).0, Some(()));
    }

    #[test]
    fn connections_that_are_older_than_a_move_are_not_current() {
        let moves = Moves::possible();
        assert!(moves.is_current(Duration::from_secs(60)));

        *moves.0.as_ref().unwrap().last.lock() = Some(Instant::now() - Duration::from_secs(2));
        assert!(moves.is_current(Duration::from_secs(1)));
        assert!(!moves.is_current(Duration::from_secs(3)));
    }
}
