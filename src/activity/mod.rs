//! Running activities: their context, the threads and the hosts they run on, and how their end is recorded.

pub(crate) mod call;
mod call_key;
mod context;
pub(crate) mod executor;
pub(crate) mod threads;

pub(crate) use crate::activity::context::ActivityContext;
pub(crate) use crate::activity::executor::Executor;
pub(crate) use crate::activity::threads::{PreparedActivity, Worker};
