//! Whether the server answers at present, so that a node that ends does not wait for a server that is gone.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long the last answer, or its absence, tells something about the next one.
const FRESH: Duration = Duration::from_secs(3);

/// The last time when it was known whether the server answers.
#[derive(Default)]
pub struct Pulse(Mutex<Option<(Instant, bool)>>);

impl Pulse {
    /// Notes that the server has answered, or that it has not answered in time.
    pub fn note(&self, answers: bool) {
        *self.0.lock() = Some((Instant::now(), answers));
    }

    /// Whether the server answers; `None` if that was not seen lately.
    pub fn latest(&self) -> Option<bool> {
        self.0.lock().filter(|(since, _)| since.elapsed() < FRESH).map(|(_, answers)| answers)
    }
}
