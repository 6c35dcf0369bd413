//! What both sides of Python and Rust share: threads and the interpreter, values, errors, names and limits.

pub(crate) mod asyncio;
pub(crate) mod codec;
pub(crate) mod errors;
pub(crate) mod finalization;
mod interpreter;
pub(crate) mod limits;
pub(crate) mod options;
pub(crate) mod origin;
pub(crate) mod python;
pub(crate) mod time_limit;
pub(crate) mod version;

pub(crate) use crate::boundary::asyncio::{Awaited, LoopQueue, awaited};
pub(crate) use crate::boundary::interpreter::{
    block_on, check_main_interpreter, enter, leave, share_newest_task, spawn, start_thread, wait,
};
