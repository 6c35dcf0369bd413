//! Running activities: their context, the threads and the hosts they run on, and how their end is recorded.

mod context;
mod executor;
mod threads;

pub(crate) use context::ActivityContext;
pub(crate) use executor::Executor;
pub(crate) use threads::Worker;
