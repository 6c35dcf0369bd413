//! The native half of duroxide for Python.
//!
//! Python code registers functions; the engine (crate `duroxide`) replays them over a store. This crate stands
//! between: `runtime` gives the engine a handler for every function, `orchestration` drives generators and coroutines
//! step by step, `activity` runs activities on threads and loops, `client` asks and tells the store, and `store` wraps
//! every store in an observer and knows nothing of Python. `bridge` is the only place where threads attach to the
//! interpreter or let go of it; `codec` and `errors` are the only ones where values and failures change their form.

mod activity;
mod allocator;
mod boundary;
mod client;
mod definitions;
mod logging;
mod native_store;
mod orchestration;
mod runtime;

#[pyo3::pymodule]
mod _native {
    use pyo3::prelude::*;

    use super::logging;
    use crate::boundary;

    #[pymodule_export]
    use crate::activity::{ActivityContext, PreparedActivity, Worker};
    #[pymodule_export]
    use crate::boundary::codec::RawText;
    #[pymodule_export]
    use crate::boundary::finalization::end_sections;
    #[pymodule_export]
    use crate::boundary::limits::{check_name, check_text, nesting};
    #[pymodule_export]
    use crate::boundary::python::look_up_exceptions;
    #[pymodule_export]
    use crate::boundary::version::{ParsedVersion, parse_version};
    #[pymodule_export]
    use crate::boundary::{Awaited, LoopQueue};
    #[pymodule_export]
    use crate::client::bulk::{EncodedMessage, EncodedStart};
    #[pymodule_export]
    use crate::client::listing::{CountRecord, NativeQuery, PageRecord, SummaryRecord};
    #[pymodule_export]
    use crate::client::outbox::{OutboxRow, RefusedRow, RelayAnswer};
    #[pymodule_export]
    use crate::client::records::{
        EventRecord, ExecutionRecord, InstanceRecord, StatusRecord, TreeRecord, without_attempt_header,
    };
    #[pymodule_export]
    use crate::client::{
        Call, NativeClient, NativeDatabaseWatcher, schema_without_name, stores_statement, write_message,
    };
    #[pymodule_export]
    use crate::logging::{deliver_logs_to, escaped, init_tracing, stop_logging};
    #[pymodule_export]
    use crate::native_store::NativeStore;
    #[pymodule_export]
    use crate::orchestration::{LoopSteps, OrchestrationContext, RetryPolicy, Task, current_context};
    #[pymodule_export]
    use crate::runtime::NativeRuntime;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        use duroxide::runtime::limits;

        boundary::check_main_interpreter()?;
        logging::install();
        module.add("version", env!("CARGO_PKG_VERSION"))?;
        module.add("engine_version", duroxide::providers::current_build_version().to_string())?;
        module.add("sqlite_version", store::sqlite_version())?;
        module.add("CANCELLATION_QUEUE", engine_adapter::CANCELLATION_QUEUE)?;
        module.add("MAX_WORKER_TAGS", limits::MAX_WORKER_TAGS)?;
        module.add("MAX_TAG_NAME_BYTES", limits::MAX_TAG_NAME_BYTES)?;
        module.add("MAX_KV_KEYS", limits::MAX_KV_KEYS)?;
        module.add("MAX_KV_VALUE_BYTES", limits::MAX_KV_VALUE_BYTES)?;
        module.add("MAX_PAYLOAD_BYTES", boundary::limits::MAX_PAYLOAD_BYTES)?;
        module.add("MAX_NESTING", boundary::limits::MAX_NESTING)?;
        module.add("MAX_NAME_BYTES", boundary::limits::MAX_NAME_BYTES)?;
        module.add("MAX_DURATION_MS", boundary::limits::MAX_DURATION_MS)?;
        module.add("DEFAULT_VERSION", boundary::version::DEFAULT_VERSION.to_string())
    }
}
