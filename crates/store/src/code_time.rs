//! Records when the code of a turn ran, for leases that count from the end of the code.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// When the code of a turn ran last. The turn's lease cannot be renewed while the code runs.
#[derive(Debug, Default)]
pub struct CodeTime(Mutex<CodeState>);

#[derive(Debug, Default, Clone, Copy)]
enum CodeState {
    #[default]
    NeverRan,
    Running,
    EndedAt(Instant),
}

impl CodeTime {
    /// Runs code, and records when it ends, also if it panics.
    pub fn run<R>(&self, code: impl FnOnce() -> R) -> R {
        struct RunningCode<'a>(&'a CodeTime);
        impl Drop for RunningCode<'_> {
            fn drop(&mut self) {
                *self.0.0.lock() = CodeState::EndedAt(Instant::now());
            }
        }
        *self.0.lock() = CodeState::Running;
        let _running = RunningCode(self);
        code()
    }

    pub fn is_running(&self) -> bool {
        matches!(*self.0.lock(), CodeState::Running)
    }

    /// When a lease ends that counts from the end of the code: `None` if no code ran, `later` while code runs.
    pub fn lease_until(&self, lease: Duration, later: Instant) -> Option<Instant> {
        match *self.0.lock() {
            CodeState::NeverRan => None,
            CodeState::Running => Some(later),
            CodeState::EndedAt(end) => Some(end + lease),
        }
    }
}
