//! The activities that run in this process. Each of them learns at once of a commit that cancels it.

use std::collections::HashMap;
use std::sync::Arc;

use duroxide::providers::ScheduledActivityIdentifier;
use parking_lot::Mutex;
use store::clock::now_ms;
use store::live::RunningReport;
use tokio::sync::watch;

/// Encloses the lock token in front of an activity's input. Every input for a handler has this prefix, so an input that
/// begins with the same character is not mistaken for it.
const SEPARATOR: char = '\u{1}';

/// Puts the lock token before the input, as the engine passes it to the handler.
pub fn join_token(token: &str, input: &str) -> String {
    format!("{SEPARATOR}{token}{SEPARATOR}{input}")
}

/// Splits the lock token and the real input; `None` for an input that did not come through a dispatcher.
pub fn split_token(input: &str) -> Option<(&str, &str)> {
    input.strip_prefix(SEPARATOR)?.split_once(SEPARATOR)
}

/// How many running activities a report has, since it is written every few seconds.
const MOST_REPORTED: usize = 500;

type Callback = Box<dyn FnOnce() + Send>;

/// An activity that runs in this process.
pub struct RunningActivity {
    pub instance: String,
    pub execution_id: u64,
    pub activity_id: u64,
    pub attempt: u32,
    pub name: String,
    /// By which its orchestration may ask it to end, and wait for its end.
    pub end_key: Option<u64>,
    /// When it was fetched, in ms since the epoch.
    pub since_ms: u64,
    cancelled: watch::Sender<bool>,
    callbacks: Mutex<Vec<Callback>>,
}

impl RunningActivity {
    pub fn new(instance: String, execution_id: u64, activity_id: u64, attempt: u32, name: String) -> Self {
        let (cancelled, _) = watch::channel(false);
        let callbacks = Mutex::new(Vec::new());
        Self {
            instance,
            execution_id,
            activity_id,
            attempt,
            name,
            since_ms: now_ms(),
            end_key: None,
            cancelled,
            callbacks,
        }
    }

    #[must_use]
    pub fn with_end_key(self, end_key: Option<u64>) -> Self {
        Self { end_key, ..self }
    }

    pub fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Resolves when the activity is cancelled, or at once if it is cancelled already.
    pub async fn cancelled(&self) {
        // The sender is in `self`, so the channel cannot be closed.
        let _ = self.cancelled.subscribe().wait_for(|cancelled| *cancelled).await;
    }

    /// Calls `callback` once when the activity is cancelled, or at once if it is cancelled already. The callback must
    /// not block.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) {
        let mut callbacks = self.callbacks.lock();
        if self.is_cancelled() {
            drop(callbacks);
            callback();
        } else {
            callbacks.push(Box::new(callback));
        }
    }

    pub fn cancel(&self) {
        let callbacks = {
            let mut callbacks = self.callbacks.lock();
            self.cancelled.send_replace(true);
            std::mem::take(&mut *callbacks)
        };
        for callback in callbacks {
            callback();
        }
    }
}

/// The running activities by lock token. All runtimes of a store share them, since each may commit a cancellation.
#[derive(Default)]
pub struct RunningActivities {
    table: Mutex<HashMap<String, Arc<RunningActivity>>>,
}

impl RunningActivities {
    pub fn insert(&self, token: &str, running: RunningActivity) {
        self.table.lock().insert(token.to_owned(), Arc::new(running));
    }

    pub fn get(&self, token: &str) -> Option<Arc<RunningActivity>> {
        self.table.lock().get(token).cloned()
    }

    pub fn remove(&self, token: &str) -> Option<Arc<RunningActivity>> {
        self.table.lock().remove(token)
    }

    /// The running activities, for the report of this process. Those that have run for longest come first.
    pub fn report(&self) -> Vec<RunningReport> {
        let table = self.table.lock();
        let mut running: Vec<_> = table
            .values()
            .map(|running| RunningReport {
                instance: running.instance.clone(),
                execution: running.execution_id,
                id: running.activity_id,
                since_ms: running.since_ms,
            })
            .collect();
        drop(table);
        running.sort_unstable_by_key(|running| running.since_ms);
        running.truncate(MOST_REPORTED);
        running
    }

    pub fn cancel(&self, activities: &[ScheduledActivityIdentifier]) {
        if !activities.is_empty() {
            self.cancel_where(|running| {
                activities.iter().any(|activity| {
                    activity.activity_id == running.activity_id
                        && activity.execution_id == running.execution_id
                        && activity.instance == running.instance
                })
            });
        }
    }

    /// Cancels the activity that its orchestration has asked to end.
    pub fn ask_to_end(&self, instance: &str, execution_id: u64, key: u64) {
        self.cancel_where(|running| {
            running.end_key == Some(key) && running.execution_id == execution_id && running.instance == instance
        });
    }

    pub fn cancel_instance(&self, instance: &str) {
        self.cancel_where(|running| running.instance == instance);
    }

    fn cancel_where(&self, matches: impl Fn(&RunningActivity) -> bool) {
        // Callbacks run outside the lock.
        let cancelled: Vec<_> = self.table.lock().values().filter(|running| matches(running)).cloned().collect();
        for running in cancelled {
            running.cancel();
        }
    }
}
