//! Drives the generators and coroutines of one turn, step by step, over the arena.
//!
//! The engine polls the handler inside a Tokio worker and may not poll it again, so at every poll the branches run
//! until none of them can move. When the engine drops the handler, a suspended orchestration is kept for its next turn,
//! which continues from there. Otherwise it is closed, and the next turn replays from the beginning.

mod endings;
pub(crate) mod steps;

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use duroxide::OrchestrationContext as EngineContext;
use pyo3::exceptions::{PyGeneratorExit, PyRuntimeWarning};
use pyo3::prelude::*;

use crate::boundary::codec;
use crate::boundary::python::WARN_EXPLICIT;
use crate::boundary::{enter, share_newest_task};
use crate::definitions::{Definitions, OrchestrationDefinition};
use crate::orchestration::arena::{CatchUpProgress, Waiting};
use crate::orchestration::closing::{close, close_execution, close_loop};
use crate::orchestration::context::OrchestrationContext;
use crate::orchestration::coroutines::{Runner, Variables, is_coroutine};
use crate::orchestration::execution::Execution;
use crate::orchestration::nondeterminism::note_mismatch;
use crate::orchestration::sticky_cache::{StickyCache, SuspendedExecution};
use crate::orchestration::task::is_branch;
use crate::orchestration::timeline::Moment;
use engine_adapter::{Dispatcher, TurnRecord, escape};

/// Runs one turn of an orchestration for the engine.
pub(crate) async fn run_turn(
    engine: EngineContext,
    input: String,
    definition: Arc<OrchestrationDefinition>,
    definitions: Arc<Definitions>,
    dispatcher: Arc<Dispatcher>,
    sticky_cache: Option<Arc<StickyCache>>,
) -> Result<String, String> {
    let record = dispatcher.turn().unwrap_or_else(|| {
        // Only a handler that is polled outside its dispatcher's task has no record; it then sees no history.
        Arc::new(TurnRecord::empty(engine.instance_id(), engine.execution_id()))
    });
    if !dispatcher.leases_count_from_the_end_of_code() {
        share_newest_task();
    }
    if let Some(suspended) = record.suspended.resume().and_then(SuspendedExecution::from_state) {
        return Driver::continue_from(suspended, &engine, &definition, input, record, sticky_cache).await;
    }
    let execution = Execution::new(engine, &record, definitions);
    Driver { execution, definition, input, record, sticky_cache, phase: DriverPhase::Begins, moment: Moment::BEGINNING }
        .await
}

struct Driver {
    execution: Arc<Execution>,
    definition: Arc<OrchestrationDefinition>,
    /// As recorded.
    input: String,
    record: Arc<TurnRecord>,
    /// Where it goes if it is suspended when its turn ends.
    sticky_cache: Option<Arc<StickyCache>>,
    phase: DriverPhase,
    /// When what the running step consumed was recorded.
    moment: Moment,
}

#[derive(Clone, Copy, PartialEq)]
enum DriverPhase {
    Begins,
    /// Repeats to the engine the actions of earlier turns.
    CatchesUp,
    Runs,
    /// It ended, or what was kept is of no use for this turn.
    Over,
}

/// The end of the orchestration: its recorded output, or its recorded failure.
type OrchestrationEnd = Result<String, String>;

impl Future for Driver {
    type Output = OrchestrationEnd;

    fn poll(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<OrchestrationEnd> {
        let driver = &mut *self;
        let record = Arc::clone(&driver.record);
        record.run(|| driver.go())
    }
}

impl Driver {
    /// Runs as far as history allows.
    fn go(&mut self) -> Poll<OrchestrationEnd> {
        let driver = self;
        match driver.phase {
            DriverPhase::Begins => {
                driver.phase = DriverPhase::Runs;
                if let Some(end) = enter(|py| driver.begin(py)) {
                    return Poll::Ready(driver.finish(end));
                }
            }
            DriverPhase::CatchesUp => {
                let progress = driver.execution.arena().catch_up();
                match progress {
                    CatchUpProgress::Waits => return Poll::Pending,
                    CatchUpProgress::CaughtUp => driver.phase = DriverPhase::Runs,
                    CatchUpProgress::Differs(report) => driver.give_up(report),
                }
            }
            DriverPhase::Runs | DriverPhase::Over => {}
        }
        if driver.phase == DriverPhase::Over {
            return Poll::Pending;
        }
        match driver.run() {
            Some(end) => Poll::Ready(driver.finish(end)),
            None => Poll::Pending,
        }
    }

    /// Continues from the state that the last turn left.
    fn continue_from(
        suspended: SuspendedExecution,
        engine: &EngineContext,
        definition: &Arc<OrchestrationDefinition>,
        input: String,
        record: Arc<TurnRecord>,
        sticky_cache: Option<Arc<StickyCache>>,
    ) -> Self {
        let is_same = Arc::ptr_eq(&suspended.definition, definition) && suspended.input == input;
        let SuspendedExecution { execution, definition, moment, .. } = suspended;
        let mut driver =
            Self { execution, definition, input, record, sticky_cache, phase: DriverPhase::CatchesUp, moment };
        if is_same {
            driver.execution.resume(engine.clone(), &driver.record);
        } else {
            driver.give_up("what was kept had another code or another input".to_owned());
        }
        driver
    }

    /// Has the turn run once more, from the beginning.
    fn give_up(&mut self, report: String) {
        self.record.suspended.report_stale(report);
        self.phase = DriverPhase::Over;
    }

    /// Calls the function; one that is neither a generator nor a coroutine function ends here.
    fn begin(&self, py: Python<'_>) -> Option<OrchestrationEnd> {
        // Code of other orchestrations runs on this thread, too.
        let result = Variables::empty(py).and_then(|variables| Ok((self.call(py, &variables)?, variables)));
        match result {
            Ok((runner, variables)) if is_coroutine(&runner) => {
                let runner = Runner::new(runner.unbind(), variables);
                let ended = self.execution.begin_loop(py, runner, self.record.receives_cancellation);
                self.end_of_loop(py, ended)
            }
            Ok((runner, variables)) if is_branch(&runner) => {
                self.execution.arena().begin(Runner::new(runner.unbind(), variables), Waiting::Begin);
                None
            }
            Ok((value, _)) => {
                let end = self.encode_result(&value);
                Some(end.map_err(|error| codec::encode_failure(py, &error)))
            }
            Err(error) => Some(Err(codec::encode_failure(py, &error))),
        }
    }

    fn call<'py>(&self, py: Python<'py>, variables: &Variables) -> PyResult<Bound<'py, PyAny>> {
        let mut value = codec::decode(py, &self.input)?;
        if let Some(annotation) = &self.definition.input_type {
            value = codec::convert(py, value, annotation.bind(py))?;
        }
        let context = Bound::new(py, OrchestrationContext::new(Arc::clone(&self.execution)))?;
        self.execution.set_context(context.clone().into_any().unbind());
        self.execution.run(|| variables.call(py, (self.definition.function.bind(py), context, value)))
    }

    /// Lets every branch run until none can move.
    fn run(&mut self) -> Option<OrchestrationEnd> {
        loop {
            if self.execution.arena().continued {
                return None;
            }
            let mut moved = self.execution.arena().advance();
            let mut watched = self.execution.arena().next_watched();
            while let Some(slot) = watched {
                moved = true;
                if let Some(end) = self.deliver(slot) {
                    return Some(end);
                }
                let mut arena = self.execution.arena();
                watched = if arena.continued { None } else { arena.next_watched() };
            }
            let mut branch = 0;
            loop {
                let next = {
                    let mut arena = self.execution.arena();
                    if arena.continued || branch >= arena.branches.len() {
                        break;
                    }
                    arena.ready(branch)
                };
                if let Some(waiting) = next {
                    moved = true;
                    if let Some(end) = enter(|py| self.resume(py, branch, waiting).or_else(|| self.run_ready(py))) {
                        return Some(end);
                    }
                }
                branch += 1;
            }
            let losers = self.take_losers();
            if !losers.is_empty() {
                moved = true;
                if let Some(end) = self.close_losers(losers) {
                    return Some(end);
                }
            }
            // The messages from here on are for the next execution.
            if self.execution.arena().continued {
                return None;
            }
            if let Some(ended) = self.execution.notice_cancellation() {
                moved = true;
                self.record.report_cancellation_received();
                if let Some(end) = enter(|py| self.end_of_loop(py, ended)) {
                    return Some(end);
                }
            }
            if !moved && !self.execution.arena().take_message() {
                let passed_over = self.execution.arena().next_out_of_order();
                match passed_over {
                    Some(slot) => {
                        if let Some(end) = self.deliver(slot) {
                            return Some(end);
                        }
                    }
                    None => return self.stuck(),
                }
            }
        }
    }

    /// Ends the orchestration: leftovers are closed and dropped in order, and code that returned early is noticed.
    fn finish(&mut self, end: OrchestrationEnd) -> OrchestrationEnd {
        self.phase = DriverPhase::Over;
        let end = end.and_then(|result| match enter(|py| self.forgotten_continuation(py)) {
            Some(failure) => Err(failure),
            None => Ok(result),
        });
        // Before what is left over runs its last, which may not refuse any more.
        let cancelled = self.execution.cancelled_end(&end);
        enter(|py| {
            let exit = PyGeneratorExit::new_err("the orchestration has ended");
            self.execution.end_loop(py);
            close_loop(py, &self.execution, &exit);
            self.execution.arena().drop_leftovers();
            for loser in self.take_losers() {
                close(py, &self.execution, &loser, &exit);
            }
        });
        note_mismatch(&self.execution, &self.record, Some(&end));
        enter(|py| self.warn_of_forgotten(py));
        if let Some(cancelled) = cancelled {
            self.record.report_cancelled(cancelled);
        }
        end
    }

    /// The branches that lost a race or were left over.
    fn take_losers(&self) -> Vec<Arc<Runner>> {
        mem::take(&mut self.execution.arena().closing)
    }

    /// Closes generators, and cancels coroutines; what that wakes on the event loop may end the orchestration.
    fn close_losers(&self, losers: Vec<Arc<Runner>>) -> Option<OrchestrationEnd> {
        enter(|py| {
            losers.into_iter().find_map(|runner| {
                if let Some(ended) = self.execution.cancel_branch(runner.bind(py)).transpose() {
                    return self.end_of_loop(py, ended);
                }
                let exit = PyGeneratorExit::new_err("the branch is no longer needed");
                close(py, &self.execution, &runner, &exit);
                self.run_ready(py)
            })
        })
    }

    fn warn_of_forgotten(&self, py: Python<'_>) {
        for node in self.execution.forgotten() {
            let (file, line) =
                node.origin.as_ref().map_or_else(|| ("<unknown>".to_owned(), 0), |origin| origin.place(py));
            let message = format!(
                "orchestration '{}' made a task and never yielded it, so it did not run: {}",
                self.definition.name,
                node.operation.describe()
            );
            let message = escape(&message);
            let warned = WARN_EXPLICIT.call(py, (&*message, py.get_type::<PyRuntimeWarning>(), file.as_str(), line));
            if warned.is_err() {
                // Warnings are errors here, and no caller could receive one.
                tracing::warn!(target: "duroxide::orchestration", file, line, "{message}");
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.phase == DriverPhase::CatchesUp {
            self.give_up("history ended before all that the code has seen".to_owned());
        }
        if self.phase == DriverPhase::Runs {
            note_mismatch(&self.execution, &self.record, None);
        }
        // Code that continues as new has ended, even if it waits.
        let is_suspended = self.phase == DriverPhase::Runs && !self.execution.arena().continued;
        match self.sticky_cache.take().filter(|_| is_suspended) {
            Some(cache) => {
                self.execution.suspend();
                let bytes = self.execution.arena().bytes();
                let suspended = SuspendedExecution {
                    execution: Arc::clone(&self.execution),
                    definition: Arc::clone(&self.definition),
                    input: mem::take(&mut self.input),
                    moment: self.moment,
                };
                self.record.suspended.suspend(cache.state(suspended), bytes);
            }
            None => enter(|py| close_execution(py, &self.execution)),
        }
    }
}
