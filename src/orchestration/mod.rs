//! Driving Python from the engine: one turn, its operations, and the code that waits for them.
//!
//! `operation` says what can be asked for; `arena` owns what was started: `start` begins it, `combine` sees it end,
//! `journal` asks the engine for it, and `retry` is its one compound state machine. `timeline` knows what history says,
//! `turn` holds it all together, `driver` steps the Python code, and `context` and `task` are what that code sees.
//! `sticky` keeps suspended orchestrations between their turns, and `closing` ends those that will not go on.

pub(crate) mod arena;
pub(crate) mod awaited_task;
pub(crate) mod closing;
pub(crate) mod code_location;
pub(crate) mod context;
pub(crate) mod coroutines;
pub(crate) mod driver;
pub(crate) mod event_loop;
pub(crate) mod execution;
pub(crate) mod limits;
pub(crate) mod nondeterminism;
pub(crate) mod operation;
pub(crate) mod retry_policy;
pub(crate) mod sticky_cache;
pub(crate) mod strict;
pub(crate) mod task;
pub(crate) mod task_fields;
pub(crate) mod timeline;
mod trace_function;
pub(crate) mod values;

pub(crate) use crate::orchestration::context::{OrchestrationContext, current_context};
pub(crate) use crate::orchestration::driver::run_turn;
pub(crate) use crate::orchestration::event_loop::steps::LoopSteps;
pub(crate) use crate::orchestration::retry_policy::RetryPolicy;
pub(crate) use crate::orchestration::sticky_cache::{CacheLimits, StickyCache};
pub(crate) use crate::orchestration::task::Task;
