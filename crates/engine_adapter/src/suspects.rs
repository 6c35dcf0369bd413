//! Suspects: activities and turns whose process died several times while it had them.
//!
//! One of them may take the process down, and its neighbours are cut off with it. The store counts the delivery of each.
//! So the more often a suspect was delivered, the fewer other suspects run beside it, and at last it runs alone in its
//! process: the next deaths then count for the one that causes them, and the engine gives up only that one. The groups come
//! first because most suspects are innocent, and many of them would wait for hours if each ran alone.
//!
//! A suspect that has run for a while without harm makes room. The time doubles with each delivery, so it outgrows the time
//! that a guilty one needs.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The first delivery as a suspect.
const FIRST_DELIVERY: u32 = 4;
/// A suspect runs alone in this many last deliveries. With each delivery before them, four times as many run at once.
const DELIVERIES_ALONE: u32 = 4;
const GROWTH_OF_GROUPS: usize = 4;
const LARGEST_GROUP: usize = 64;
/// How long a suspect keeps its place in the first delivery.
const FIRST_WATCH: Duration = Duration::from_secs(10);
/// The doubling of the time ends after this many deliveries.
const MOST_DOUBLINGS: u32 = 10;
/// How long a suspect waits for the next look.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// How long a suspect rests before it begins alone, so that the store has those back that were fetched beside it.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// The part of a lease that such a rest may take.
const PART_OF_LEASE: u32 = 4;

#[derive(Default)]
pub struct Suspects(Mutex<Places>);

#[derive(Default)]
struct Places {
    running: Vec<Suspect>,
    /// The smallest group that waits for its place, and until when larger groups leave it the room.
    reserved: Option<(usize, Instant)>,
}

struct Suspect {
    token: String,
    group: usize,
    watched_until: Instant,
}

/// Whether fetched work may begin.
#[derive(Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// It begins now.
    None,
    /// It is a suspect, and begins as the only one, after [`rest`].
    Alone,
    /// Other suspects run. The work is left for this time.
    Waits(Duration),
}

/// How long a suspect rests before it begins alone.
pub fn rest(lease: Duration) -> Duration {
    LONGEST_REST.min(lease / PART_OF_LEASE)
}

impl Suspects {
    /// Decides about the delivery number `attempt` of the work that was leased with `token`.
    pub fn admit(&self, token: &str, attempt: u32, max_attempts: u32) -> Suspicion {
        let first = FIRST_DELIVERY.min(max_attempts);
        // The first delivery follows no death, and work beyond the limit does not run.
        if attempt < first || attempt == 1 || attempt > max_attempts {
            return Suspicion::None;
        }
        let watch = FIRST_WATCH * 2u32.pow((attempt - first).min(MOST_DOUBLINGS));
        let group = largest_group(attempt, max_attempts);
        self.0.lock().admit(token, group, watch)
    }

    /// Lets other suspects begin after the work with `token` has ended.
    pub fn end(&self, token: &str) {
        self.0.lock().running.retain(|suspect| suspect.token != token);
    }
}

impl Places {
    fn admit(&mut self, token: &str, group: usize, watch: Duration) -> Suspicion {
        let now = Instant::now();
        self.running.retain(|suspect| suspect.watched_until > now);
        self.reserved.take_if(|(_, until)| *until <= now);
        let has_room = self
            .running
            .iter()
            .map(|suspect| suspect.group)
            .min()
            .is_none_or(|smallest| self.running.len() < smallest.min(group));
        let is_reserved = self.reserved.is_some_and(|(smaller, _)| smaller < group);
        if has_room && !is_reserved {
            self.running.push(Suspect { token: token.to_owned(), group, watched_until: now + watch });
            self.reserved.take_if(|(reserved, _)| *reserved == group);
            return if group == 1 { Suspicion::Alone } else { Suspicion::None };
        }
        if !is_reserved {
            self.reserved = Some((group, now + 2 * LONGEST_PAUSE));
        }
        let first_end = self.running.iter().map(|suspect| suspect.watched_until - now).min();
        Suspicion::Waits(first_end.unwrap_or(SHORTEST_PAUSE).clamp(SHORTEST_PAUSE, LONGEST_PAUSE))
    }
}

/// How many suspects run at most while this delivery of one of them runs.
fn largest_group(attempt: u32, max_attempts: u32) -> usize {
    let left = max_attempts - attempt;
    GROWTH_OF_GROUPS.saturating_pow((left + 1).saturating_sub(DELIVERIES_ALONE)).min(LARGEST_GROUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_ATTEMPTS: u32 = 10;
    /// The first delivery in which a suspect runs alone.
    const ALONE: u32 = 7;

    #[test]
    fn work_is_no_suspect_before_its_process_died_three_times() {
        let suspects = Suspects::default();

        for attempt in 1..FIRST_DELIVERY {
            assert_eq!(suspects.admit("a", attempt, MAX_ATTEMPTS), Suspicion::None);
        }
        assert!(suspects.0.lock().running.is_empty());
        assert_eq!(suspects.admit("a", FIRST_DELIVERY, MAX_ATTEMPTS), Suspicion::None);
        assert_eq!(suspects.0.lock().running.len(), 1);
    }

    #[test]
    fn the_groups_shrink_with_each_delivery_until_a_suspect_runs_alone() {
        let groups: Vec<_> =
            (FIRST_DELIVERY..=MAX_ATTEMPTS).map(|attempt| largest_group(attempt, MAX_ATTEMPTS)).collect();
        assert_eq!(groups, [64, 16, 4, 1, 1, 1, 1]);
        assert_eq!(largest_group(FIRST_DELIVERY, 1_000), LARGEST_GROUP);
    }

    #[test]
    fn a_group_takes_as_many_as_its_smallest_member_allows() {
        let suspects = Suspects::default();
        for number in 0..3 {
            assert_eq!(suspects.admit(&format!("early {number}"), FIRST_DELIVERY, MAX_ATTEMPTS), Suspicion::None);
        }
        assert_eq!(suspects.admit("late", ALONE - 1, MAX_ATTEMPTS), Suspicion::None);
        assert_eq!(suspects.admit("next", FIRST_DELIVERY, MAX_ATTEMPTS), Suspicion::Waits(LONGEST_PAUSE));

        suspects.end("late");
        assert_eq!(suspects.admit("next", FIRST_DELIVERY, MAX_ATTEMPTS), Suspicion::None);
    }

    #[test]
    fn a_suspect_that_waits_for_a_smaller_group_comes_before_larger_groups() {
        let suspects = Suspects::default();
        assert_eq!(suspects.admit("a", FIRST_DELIVERY, MAX_ATTEMPTS), Suspicion::None);
        assert_eq!(suspects.admit("lone", ALONE, MAX_ATTEMPTS), Suspicion::Waits(LONGEST_PAUSE));
        assert_eq!(suspects.admit("b", FIRST_DELIVERY, MAX_ATTEMPTS), Suspicion::Waits(LONGEST_PAUSE));

        suspects.end("a");
        assert_eq!(suspects.admit("lone", ALONE, MAX_ATTEMPTS), Suspicion::Alone);
    }

    #[test]
    fn the_last_delivery_is_that_of_a_suspect_however_few_there_are() {
        assert_eq!(Suspects::default().admit("a", 2, 2), Suspicion::Alone);
        assert_eq!(Suspects::default().admit("a", 1, 1), Suspicion::None);
    }

    #[test]
    fn a_second_suspect_waits_for_the_end_of_the_one_that_runs_alone() {
        let suspects = Suspects::default();
        assert_eq!(suspects.admit("a", ALONE, MAX_ATTEMPTS), Suspicion::Alone);
        assert_eq!(suspects.admit("b", ALONE, MAX_ATTEMPTS), Suspicion::Waits(LONGEST_PAUSE));

        suspects.end("b");
        assert_eq!(suspects.admit("b", ALONE, MAX_ATTEMPTS), Suspicion::Waits(LONGEST_PAUSE));

        suspects.end("a");
        assert_eq!(suspects.admit("b", ALONE, MAX_ATTEMPTS), Suspicion::Alone);
    }

    #[test]
    fn work_that_the_engine_gives_up_does_not_wait() {
        let suspects = Suspects::default();
        assert_eq!(suspects.admit("a", ALONE, MAX_ATTEMPTS), Suspicion::Alone);

        assert_eq!(suspects.admit("b", MAX_ATTEMPTS + 1, MAX_ATTEMPTS), Suspicion::None);
    }
}
