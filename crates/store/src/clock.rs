//! The wall clock, in milliseconds since the epoch as the engine records times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, milliseconds)
}

pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds as a signed number, which SQL needs.
pub fn span_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The time `delay` from now.
pub fn after_ms(delay: Duration) -> u64 {
    now_ms().saturating_add(milliseconds(delay))
}
