//! How many sessions each owner may hold. The engine's interface has no room for it: the engine counts only the sessions
//! whose activities run, after a store has leased them.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A session that has been idle for this long makes room, if an activity of another session waits.
pub const IDLE_BEFORE_GIVEN_UP: Duration = Duration::from_secs(2);
/// The time between two warnings about one owner.
const WARNING_PAUSE: Duration = Duration::from_secs(60);

struct SessionLimit {
    most: usize,
    warned: Option<Instant>,
}

/// The limits of the runtimes in this process, by the owners of their sessions.
static LIMITS: LazyLock<Mutex<HashMap<String, SessionLimit>>> = LazyLock::new(Mutex::default);

pub fn set(owner: &str, most: usize) {
    LIMITS.lock().insert(owner.to_owned(), SessionLimit { most, warned: None });
}

pub fn remove(owner: &str) {
    LIMITS.lock().remove(owner);
}

/// How many sessions the owner may hold; `None` without a limit.
pub fn of(owner: &str) -> Option<usize> {
    LIMITS.lock().get(owner).map(|limit| limit.most)
}

/// Warns, once a minute, that work waits since the owner holds all the sessions that it may hold.
pub fn warn(owner: &str) {
    let mut limits = LIMITS.lock();
    let Some(limit) = limits.get_mut(owner) else { return };
    if limit.warned.is_some_and(|warned| warned.elapsed() < WARNING_PAUSE) {
        return;
    }
    limit.warned = Some(Instant::now());
    let most = limit.most;
    drop(limits);
    tracing::warn!(
        target: "duroxide::runtime",
        owner,
        "activities of sessions wait, since this runtime holds {most} sessions already; a session makes room after {} s \
         without an activity; raise max_sessions_per_runtime, or start another node",
        IDLE_BEFORE_GIVEN_UP.as_secs()
    );
}
