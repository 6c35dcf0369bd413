//! Driving Python from the engine: one turn, its operations, and the code that waits for them.
//!
//! `operation` says what can be asked for; `arena` owns what was started: `start` begins it, `combine` sees it end,
//! `journal` asks the engine for it, and `retry` is its one compound state machine. `timeline` knows what history says,
//! `turn` holds it all together, `driver` steps the Python code, and `context` and `task` are what that code sees.
//! `sticky` keeps suspended orchestrations between their turns, and `closing` ends those that will not go on.

mod arena;
mod closing;
mod context;
mod difference;
mod driver;
mod event_loop;
pub(crate) mod limits;
mod loop_steps;
mod operation;
mod retry;
mod sticky;
mod strict;
mod task;
mod timeline;
mod turn;

pub(crate) use context::{OrchestrationContext, current_context};
pub(crate) use driver::run_turn;
pub(crate) use loop_steps::LoopSteps;
pub(crate) use sticky::{Room, SuspendedOrchestrations};
pub(crate) use task::Task;
