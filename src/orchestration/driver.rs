//! Drives the generators and coroutines of one turn, step by step, over the arena.
//!
//! The engine polls the handler inside a Tokio worker and may not poll it again, so at every poll the branches run
//! until none of them can move. A suspended turn is closed when the engine drops the handler.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use duroxide::OrchestrationContext as EngineContext;
use pyo3::exceptions::{PyGeneratorExit, PyRuntimeWarning, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;

use super::arena::{Failure, Outcome, Waiting};
use super::context::OrchestrationContext;
use super::task::{Task, is_branch, is_unbegun, not_a_task, value_of};
use super::timeline::Moment;
use super::turn::Turn;
use crate::bridge::{enter, share_newest_task};
use crate::codec;
use crate::definitions::{Definitions, OrchestrationDefinition};
use crate::errors::TurnClosed;
use crate::store::{Dispatcher, TurnRecord};

/// How often a generator that keeps yielding while it is closed is asked again.
const CLOSE_ATTEMPTS: usize = 8;

/// Runs one turn of an orchestration for the engine.
pub(crate) async fn run_turn(
    engine: EngineContext,
    input: String,
    definition: Arc<OrchestrationDefinition>,
    definitions: Arc<Definitions>,
    dispatcher: Arc<Dispatcher>,
) -> Result<String, String> {
    let record = dispatcher.turn().unwrap_or_else(|| {
        // Only a handler that is polled outside its dispatcher's task has no record; it then sees no history.
        Arc::new(TurnRecord::empty(engine.instance_id(), engine.execution_id()))
    });
    share_newest_task();
    let turn = Turn::new(engine, record, definitions);
    Driver { turn, definition, input: Some(input), moment: Moment::BEGINNING }.await
}

struct Driver {
    turn: Arc<Turn>,
    definition: Arc<OrchestrationDefinition>,
    /// The recorded input, until the first poll.
    input: Option<String>,
    /// When what the running step consumed was recorded.
    moment: Moment,
}

/// The end of the orchestration: its recorded output, or its recorded failure.
type End = Result<String, String>;

impl Future for Driver {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<End> {
        let driver = &mut *self;
        if let Some(input) = driver.input.take()
            && let Some(end) = enter(|py| driver.begin(py, &input))
        {
            return Poll::Ready(driver.finish(end));
        }
        match driver.run() {
            Some(end) => Poll::Ready(driver.finish(end)),
            None => Poll::Pending,
        }
    }
}

impl Driver {
    /// Calls the function; one that is neither a generator nor a coroutine function ends here.
    fn begin(&self, py: Python<'_>, input: &str) -> Option<End> {
        let result = self.call(py, input);
        match result {
            Ok(runner) if is_branch(&runner) => {
                self.turn.arena().begin(runner.unbind());
                None
            }
            Ok(value) => Some(codec::encode(&value).map_err(|error| codec::encode_failure(py, &error))),
            Err(error) => Some(Err(codec::encode_failure(py, &error))),
        }
    }

    fn call<'py>(&self, py: Python<'py>, input: &str) -> PyResult<Bound<'py, PyAny>> {
        let mut value = codec::decode(py, input)?;
        if let Some(annotation) = &self.definition.input_type {
            value = codec::convert(py, value, annotation.bind(py))?;
        }
        let context = Bound::new(py, OrchestrationContext::new(py, Arc::clone(&self.turn)))?;
        self.turn.run(|| self.definition.function.bind(py).call1((context, value)))
    }

    /// Lets every branch run until none can move.
    fn run(&mut self) -> Option<End> {
        loop {
            let mut moved = self.turn.arena().advance();
            let mut branch = 0;
            loop {
                let next = {
                    let mut arena = self.turn.arena();
                    if arena.continued || branch >= arena.branches.len() {
                        break;
                    }
                    arena.ready(branch)
                };
                if let Some(waiting) = next {
                    moved = true;
                    if let Some(end) = enter(|py| self.resume(py, branch, waiting)) {
                        return Some(end);
                    }
                }
                branch += 1;
            }
            moved |= self.close_losers();
            if !moved && !self.turn.arena().take_message() {
                return None;
            }
        }
    }

    /// Runs one branch to its next wait or its end.
    fn resume(&mut self, py: Python<'_>, branch: usize, waiting: Waiting) -> Option<End> {
        let runner = Arc::clone(&self.turn.arena().branches[branch].runner);
        let runner = runner.bind(py);
        let mut step = match waiting {
            Waiting::Begin | Waiting::Ended => self.send(runner, &py.None().into_bound(py)),
            Waiting::On(slot) => {
                if let Some((_, moment)) = self.turn.arena().outcome(slot) {
                    self.moment = moment;
                    self.turn.consume(moment);
                }
                match value_of(py, &self.turn, slot) {
                    Ok(value) => self.send(runner, &value),
                    Err(error) => self.throw(runner, error),
                }
            }
        };
        loop {
            match step {
                Ok(yielded) => match self.await_task(&yielded) {
                    Ok(slot) => {
                        let mut arena = self.turn.arena();
                        arena.branches[branch].waiting = Waiting::On(slot);
                        return None;
                    }
                    // Thrown where it was yielded, so that the traceback names the user's line.
                    Err(error) => step = self.throw(runner, error),
                },
                Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                    let value = error.value(py).getattr(intern!(py, "value"));
                    return self.end(py, branch, value);
                }
                Err(error) => return self.end(py, branch, Err(error)),
            }
        }
    }

    fn send<'py>(&self, runner: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.turn.run(|| runner.call_method1(intern!(runner.py(), "send"), (value,)))
    }

    fn throw<'py>(&self, runner: &Bound<'py, PyAny>, error: PyErr) -> PyResult<Bound<'py, PyAny>> {
        let py = runner.py();
        self.turn.run(|| runner.call_method1(intern!(py, "throw"), (error.into_value(py),)))
    }

    /// Starts what was yielded, unless it was started before.
    fn await_task(&self, yielded: &Bound<'_, PyAny>) -> PyResult<usize> {
        let Ok(task) = yielded.cast::<Task>() else {
            return Err(not_a_task(yielded));
        };
        let node = super::task::as_node(&self.turn, task)?;
        Ok(self.turn.arena().start(&node))
    }

    fn end(&self, py: Python<'_>, branch: usize, result: PyResult<Bound<'_, PyAny>>) -> Option<End> {
        if branch == 0 {
            self.turn.arena().branches[branch].waiting = Waiting::Ended;
            let end = result.and_then(|value| codec::encode(&value));
            return Some(end.map_err(|error| {
                log_failure(py, &self.turn, &error);
                codec::encode_failure(py, &error)
            }));
        }
        let outcome = match result {
            Ok(value) => Outcome::Returned(Arc::new(value.unbind())),
            Err(error) => Outcome::Failed(Failure::Raised(Arc::new(error.into_value(py).into_any()))),
        };
        self.turn.arena().end_branch(branch, outcome, self.moment);
        None
    }

    /// Ends the orchestration: leftovers are closed and dropped in order, and code that returned early is noticed.
    fn finish(&self, end: End) -> End {
        self.turn.arena().drop_leftovers();
        self.close_losers();
        let (actions, recorded) = {
            let arena = self.turn.arena();
            (arena.actions(), arena.timeline.recorded_actions())
        };
        if actions < recorded {
            self.turn.record.report_mismatch(format!(
                "the code of orchestration '{}' ended after {actions} recorded operations, and history holds {recorded}",
                self.definition.name
            ));
        }
        enter(|py| self.warn_of_forgotten(py));
        end
    }

    /// Closes the generators of branches that lost a race or were left over; whether there were any.
    fn close_losers(&self) -> bool {
        let losers = std::mem::take(&mut self.turn.arena().closing);
        if losers.is_empty() {
            return false;
        }
        enter(|py| {
            for runner in losers {
                self.close(runner.bind(py), &PyGeneratorExit::new_err("the branch is no longer needed"));
            }
        });
        true
    }

    /// Throws `exit` until the generator or coroutine ends; what it yields or raises meanwhile is nobody's.
    fn close(&self, runner: &Bound<'_, PyAny>, exit: &PyErr) {
        let py = runner.py();
        if is_unbegun(runner) {
            // It has no finally block to run, and thrown into, a coroutine would be said to be never awaited.
            runner.call_method0(intern!(py, "close")).ok();
            return;
        }
        for _ in 0..CLOSE_ATTEMPTS {
            let step =
                self.turn.run(|| runner.call_method1(intern!(py, "throw"), (exit.clone_ref(py).into_value(py),)));
            let Ok(yielded) = step else { return };
            if let Ok(task) = yielded.cast::<Task>() {
                task.get().node.set_replaced();
            }
        }
        // Its destructor would ask once more, and report on stderr that it refuses to end.
        std::mem::forget(runner.clone());
        let (instance, name) = (self.turn.record.instance.as_str(), self.definition.name.as_str());
        tracing::warn!(
            target: "duroxide::orchestration",
            instance_id = instance,
            orchestration_name = name,
            "orchestration '{name}' does not let itself be closed between two turns, and its memory is lost: a bare \
             'except:' or 'except BaseException:' around a yield must raise again"
        );
    }

    fn warn_of_forgotten(&self, py: Python<'_>) {
        for node in self.turn.forgotten() {
            let (file, line) =
                node.origin.as_ref().map_or_else(|| ("<unknown>".to_owned(), 0), |origin| origin.place(py));
            let message = format!(
                "orchestration '{}' made a task and never yielded it, so it did not run: {}",
                self.definition.name,
                node.operation.describe()
            );
            let warned = py.import("warnings").and_then(|warnings| {
                let category = py.get_type::<PyRuntimeWarning>();
                warnings.call_method1("warn_explicit", (message.as_str(), category, file.as_str(), line))
            });
            if warned.is_err() {
                // Warnings are errors here, and there is no caller who could be told.
                tracing::warn!(target: "duroxide::orchestration", file, line, "{message}");
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let runners = self.turn.arena().unfinished();
        enter(|py| {
            // Nothing that happens from here on is recorded, and nothing of it is logged again.
            self.turn.begin_closing();
            for runner in runners {
                close_unbegun_locals(runner.bind(py));
                let closed = TurnClosed::new_err("the turn of this orchestration has ended; it goes on in a later one");
                self.close(runner.bind(py), &closed);
            }
            for runner in self.turn.unbegun_branches() {
                self.close(runner.bind(py), &TurnClosed::new_err("the turn of this orchestration has ended"));
            }
            self.turn.close();
            self.turn.clear();
        });
    }
}

/// Closes the coroutines that a suspended one has made and not begun yet: Python would warn of them at every turn's end.
fn close_unbegun_locals(runner: &Bound<'_, PyAny>) {
    let py = runner.py();
    let frame = runner.getattr(intern!(py, "gi_frame")).or_else(|_| runner.getattr(intern!(py, "cr_frame")));
    let Ok(locals) = frame.and_then(|frame| frame.getattr(intern!(py, "f_locals"))) else { return };
    let Ok(values) = locals.call_method0(intern!(py, "values")).and_then(|values| values.try_iter()) else { return };
    for value in values.flatten() {
        if value.hasattr(intern!(py, "cr_frame")).unwrap_or(false) && is_unbegun(&value) {
            value.call_method0(intern!(py, "close")).ok();
        }
    }
}

/// The traceback goes to the log, never into history.
fn log_failure(py: Python<'_>, turn: &Turn, error: &PyErr) {
    if turn.is_replaying() {
        return;
    }
    let message = format!("orchestration of instance '{}' failed", turn.record.instance);
    crate::logging::log_exception(
        py,
        "duroxide.orchestration",
        &message,
        error,
        &[
            ("instance_id", &turn.record.instance),
            ("orchestration_name", &turn.engine.orchestration_name()),
            ("orchestration_version", &turn.engine.orchestration_version()),
        ],
    );
}
