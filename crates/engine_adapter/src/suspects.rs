//! Suspects: activities and turns whose process died several times while it had them.
//!
//! One of them may take the process down, and its neighbours are cut off with it. The store counts the delivery of each.
//! So suspects run one at a time in every process: the next deaths then count for the one that causes them, and the
//! engine gives up only that one. A suspect that has run for a while without harm lets the next one begin, since many
//! innocent ones may take hours. The time doubles with each delivery, so it outgrows the time that a guilty one needs.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The first delivery as a suspect.
const FIRST_DELIVERY: u32 = 4;
/// How long the next suspect waits in the first delivery.
const FIRST_WATCH: Duration = Duration::from_secs(10);
/// The doubling of the time ends after this many deliveries.
const MOST_DOUBLINGS: u32 = 10;
/// How long a suspect waits for the next look.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// How long a suspect rests before it begins, so that the store has those back that were fetched beside it.
pub const REST: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Suspects {
    current: Mutex<Option<Suspect>>,
}

struct Suspect {
    token: String,
    watched_until: Instant,
}

/// Whether fetched work may begin.
#[derive(Debug, PartialEq, Eq)]
pub enum Suspicion {
    None,
    /// It is a suspect, and begins as the only one, after [`REST`].
    Alone,
    /// Another suspect runs. The work is left for this time.
    Waits(Duration),
}

impl Suspects {
    /// Decides about the delivery number `attempt` of the work that was leased with `token`.
    pub fn admit(&self, token: &str, attempt: u32, max_attempts: u32) -> Suspicion {
        let first = FIRST_DELIVERY.min(max_attempts);
        // The first delivery follows no death, and work beyond the limit does not run.
        if attempt < first || attempt == 1 || attempt > max_attempts {
            return Suspicion::None;
        }
        let now = Instant::now();
        let mut current = self.current.lock();
        if let Some(other) = &*current
            && other.watched_until > now
        {
            return Suspicion::Waits((other.watched_until - now).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
        }
        let watch = FIRST_WATCH * 2u32.pow((attempt - first).min(MOST_DOUBLINGS));
        *current = Some(Suspect { token: token.to_owned(), watched_until: now + watch });
        Suspicion::Alone
    }

    /// Lets the next suspect begin after the work with `token` has ended.
    pub fn end(&self, token: &str) {
        self.current.lock().take_if(|current| current.token == token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_ATTEMPTS: u32 = 10;

    #[test]
    fn work_is_no_suspect_before_its_process_died_three_times() {
        let suspects = Suspects::default();

        for attempt in 1..FIRST_DELIVERY {
            assert_eq!(suspects.admit("a", attempt, MAX_ATTEMPTS), Suspicion::None);
        }
        assert_eq!(suspects.admit("a", FIRST_DELIVERY, MAX_ATTEMPTS), Suspicion::Alone);
    }

    #[test]
    fn the_last_delivery_is_that_of_a_suspect_however_few_there_are() {
        assert_eq!(Suspects::default().admit("a", 2, 2), Suspicion::Alone);
        assert_eq!(Suspects::default().admit("a", 1, 1), Suspicion::None);
    }

    #[test]
    fn a_second_suspect_waits_for_the_end_of_the_first() {
        let suspects = Suspects::default();
        assert_eq!(suspects.admit("a", FIRST_DELIVERY, MAX_ATTEMPTS), Suspicion::Alone);
        assert_eq!(suspects.admit("b", FIRST_DELIVERY, MAX_ATTEMPTS), Suspicion::Waits(LONGEST_PAUSE));

        suspects.end("b");
        assert_eq!(suspects.admit("b", FIRST_DELIVERY, MAX_ATTEMPTS), Suspicion::Waits(LONGEST_PAUSE));

        suspects.end("a");
        assert_eq!(suspects.admit("b", FIRST_DELIVERY, MAX_ATTEMPTS), Suspicion::Alone);
    }

    #[test]
    fn work_that_the_engine_gives_up_does_not_wait() {
        let suspects = Suspects::default();
        assert_eq!(suspects.admit("a", FIRST_DELIVERY, MAX_ATTEMPTS), Suspicion::Alone);

        assert_eq!(suspects.admit("b", MAX_ATTEMPTS + 1, MAX_ATTEMPTS), Suspicion::None);
    }
}
