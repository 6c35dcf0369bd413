//! Pauses between attempts at something that keeps failing.

use std::time::Duration;

/// The pause before the second attempt.
pub const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two attempts at a database.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How many failures in a row count as an outage.
pub const FAILURES_OF_OUTAGE: u32 = 3;

/// The pause when the first attempt and `failures` more have failed. It doubles with each failure, and is `longest` at
/// most.
pub fn pause_after(failures: u32, longest: Duration) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_until_it_is_the_longest() {
        let pauses = [0, 1, 5, 6, u32::MAX].map(|failures| pause_after(failures, LONGEST_PAUSE).as_millis());

        assert_eq!(pauses, [20, 40, 640, 1_000, 1_000]);
    }
}
