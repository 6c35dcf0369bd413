//! The key of a call of an activity, for other systems that must not do its work twice.

use std::sync::Arc;

use duroxide::ActivityContext as EngineContext;
use engine_adapter::{Dispatcher, RunningActivity};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::boundary;
use crate::boundary::errors::{DuroxideError, Error};
use crate::boundary::python::CALL_KEY;

/// Makes the key at its first use, because that asks the store.
pub(crate) struct CallKey {
    dispatcher: Arc<Dispatcher>,
    /// The event that scheduled the first attempt, if this is a later one.
    first_attempt: Option<u64>,
    made: PyOnceLock<String>,
}

impl CallKey {
    pub(crate) fn new(dispatcher: Arc<Dispatcher>, first_attempt: Option<u64>) -> Self {
        Self { dispatcher, first_attempt, made: PyOnceLock::new() }
    }

    pub(crate) fn get(
        &self,
        py: Python<'_>,
        engine: &EngineContext,
        running: Option<&Arc<RunningActivity>>,
    ) -> PyResult<String> {
        if let Some(key) = self.made.get(py) {
            return Ok(key.clone());
        }
        let scheduled = self.first_attempt.or_else(|| running.map(|running| running.activity_id));
        let scheduled = scheduled.ok_or_else(|| DuroxideError::new_err("the store did not give the activity's id"))?;
        let instance = engine.instance_id();
        let created = boundary::block_on(py, async {
            let created = self.dispatcher.created(instance).await?;
            created.ok_or_else(|| Error::NotFound(instance.to_owned()))
        })?;
        let key: String = CALL_KEY.call(py, (instance, created, engine.execution_id(), scheduled))?.extract()?;
        Ok(self.made.get_or_init(py, || key).clone())
    }
}
