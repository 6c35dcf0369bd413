//! Every name of a Python module, class or function that this crate uses.
//!
//! A name that changes in Python changes here and nowhere else. `tests/structure/test_python_names.py` reads this file,
//! imports each module and resolves each name, so each name is a literal.

use pyo3::call::PyCallArgs;
use pyo3::import_exception;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};

import_exception!(asyncio, CancelledError);
import_exception!(duroxide.exceptions, ClientError);
import_exception!(duroxide.exceptions, ConfigurationError);
import_exception!(duroxide.exceptions, DuroxideError);
import_exception!(duroxide.exceptions, InstanceAlreadyExists);
import_exception!(duroxide.exceptions, InstanceNotFound);
import_exception!(duroxide.exceptions, InstanceStillRunning);
import_exception!(duroxide.exceptions, LimitExceeded);
import_exception!(duroxide.exceptions, NotAllowedInOrchestration);
import_exception!(duroxide.exceptions, ProviderError);
import_exception!(duroxide.exceptions, TurnClosed);
import_exception!(duroxide.exceptions, WaitTimedOut);

/// Looks up the classes of exceptions. The first use of one may come while the interpreter ends, which refuses imports.
#[pyfunction]
pub(crate) fn look_up_exceptions(py: Python<'_>) {
    drop([
        py.get_type::<CancelledError>(),
        py.get_type::<ClientError>(),
        py.get_type::<ConfigurationError>(),
        py.get_type::<DuroxideError>(),
        py.get_type::<InstanceAlreadyExists>(),
        py.get_type::<InstanceNotFound>(),
        py.get_type::<InstanceStillRunning>(),
        py.get_type::<LimitExceeded>(),
        py.get_type::<NotAllowedInOrchestration>(),
        py.get_type::<ProviderError>(),
        py.get_type::<TurnClosed>(),
        py.get_type::<WaitTimedOut>(),
    ]);
}

/// A class, function or value of a Python module, looked up at its first use.
pub(crate) struct Attribute {
    module: &'static str,
    name: &'static str,
    found: PyOnceLock<Py<PyAny>>,
}

impl Attribute {
    const fn of(module: &'static str, name: &'static str) -> Self {
        Self { module, name, found: PyOnceLock::new() }
    }

    pub(crate) fn get<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        let find = || PyResult::Ok(py.import(self.module)?.getattr(self.name)?.unbind());
        Ok(self.found.get_or_try_init(py, find)?.bind(py))
    }

    pub(crate) fn call<'py>(&self, py: Python<'py>, arguments: impl PyCallArgs<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.get(py)?.call1(arguments)
    }

    /// Calls it with arguments that have names.
    pub(crate) fn call_with<'py>(&self, arguments: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
        self.get(arguments.py())?.call((), Some(arguments))
    }
}

/// A method or field of the objects of a Python class.
pub(crate) struct Member {
    name: &'static str,
    text: PyOnceLock<Py<PyString>>,
}

impl Member {
    const fn of(name: &'static str) -> Self {
        Self { name, text: PyOnceLock::new() }
    }

    /// The name as Python text, made once.
    pub(crate) fn text<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        self.text.get_or_init(py, || PyString::intern(py, self.name).unbind()).bind(py)
    }

    pub(crate) fn get<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        object.getattr(self.text(object.py()))
    }

    /// Reads the field of an object that may lack it.
    pub(crate) fn find<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        object.getattr_opt(self.text(object.py()))
    }

    pub(crate) fn set<'py>(&self, object: &Bound<'py, PyAny>, value: impl IntoPyObject<'py>) -> PyResult<()> {
        object.setattr(self.text(object.py()), value)
    }

    pub(crate) fn call<'py>(
        &self,
        object: &Bound<'py, PyAny>,
        arguments: impl PyCallArgs<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        object.call_method1(self.text(object.py()), arguments)
    }
}

/// Declares attributes of a module: `attributes! { "module": STATIC = "name"; }`.
macro_rules! attributes {
    ($module:literal: $($(#[$doc:meta])* $constant:ident = $name:literal;)+) => {
        $($(#[$doc])* pub(crate) static $constant: Attribute = Attribute::of($module, $name);)+
    };
}

/// Declares members of a class: `members! { "module", "Class": STATIC = "name"; }`. Only the test needs the class.
macro_rules! members {
    ($module:literal, $class:literal: $($(#[$doc:meta])* $constant:ident = $name:literal;)+) => {
        $($(#[$doc])* pub(crate) static $constant: Member = Member::of($name);)+
    };
}

attributes! { "duroxide":
    PACKAGE_FILE = "__file__";
}

attributes! { "duroxide.exceptions":
    ACTIVITY_FAILED = "activity_failed";
    ACTIVITY_TIMED_OUT = "activity_timed_out";
    ENCODE_FAILURE = "encode_failure";
    SUB_ORCHESTRATION_FAILED = "sub_orchestration_failed";
    SUB_ORCHESTRATION_TIMED_OUT = "sub_orchestration_timed_out";
}

attributes! { "duroxide._values.codec":
    CONVERT = "convert";
    DECODE = "decode";
    ENCODE = "encode";
}

attributes! { "duroxide._declare.retry":
    NATIVE_RETRY_POLICY = "native_policy";
}

members! { "duroxide._declare.declarations", "Activity":
    DECLARED_KIND = "kind";
    DECLARED_NAME = "name";
    DECLARED_RESULT_TYPE = "result_type";
}

attributes! { "duroxide._orchestration.outcomes":
    OUTCOME_ERR = "err";
    OUTCOME_OK = "ok";
}

members! { "duroxide._orchestration.outcomes", "Winner":
    WINNER_INDEX = "index";
    WINNER_VALUE = "value";
}

attributes! { "duroxide._orchestration.strict":
    STRICT_BEGIN = "begin";
    STRICT_END = "end";
}

attributes! { "duroxide._orchestration.unawaited":
    UNBEGUN_COROUTINES = "unbegun_coroutines";
}

attributes! { "duroxide._orchestration.event_loop":
    ORCHESTRATION_LOOP = "OrchestrationLoop";
}

members! { "duroxide._orchestration.event_loop", "OrchestrationLoop":
    LOOP_ABANDON = "abandon";
    LOOP_BEGIN = "begin";
    LOOP_BEGIN_BRANCH = "begin_branch";
    LOOP_CANCEL = "cancel";
    LOOP_CANCEL_BRANCH = "cancel_branch";
    LOOP_CHECK_NOT_CANCELLED = "check_not_cancelled";
    LOOP_DELIVER = "deliver";
    LOOP_END = "end";
    LOOP_HALT = "halt";
    LOOP_IS_CANCELLING = "is_cancelling";
    LOOP_REFUSE_STEP = "refuse_step";
    LOOP_RESULT = "result";
    LOOP_RUN_READY = "run_ready";
    LOOP_RUNS_MAIN = "runs_main";
    LOOP_STUCK = "stuck";
    LOOP_THROW = "throw";
    LOOP_WAIT = "wait";
}

attributes! { "duroxide._runtime.call_key":
    CALL_KEY = "call_key";
}

attributes! { "duroxide._runtime.cut_off":
    END_OF_PROCESS = "end_of_process";
    SHORTAGE = "shortage";
}

attributes! { "duroxide._runtime.activity_thread":
    START_ACTIVITY_THREAD = "start";
}

members! { "duroxide._runtime.activity_loop", "ActivityHost":
    HOST_RUN = "run";
    HOST_STOP = "stop";
}

members! { "duroxide._runtime.activity_loop", "RunningActivity":
    RUNNING_ACTIVITY_CANCEL = "cancel";
    RUNNING_ACTIVITY_HAS_BEGUN = "has_begun";
}

attributes! { "duroxide._values.failures":
    IS_MADE_OF = "is_made_of";
}

members! { "duroxide._values.failures", "RecordedFailure":
    /// The class of an exception that was raised in a process of a pool.
    FAILURE_ERROR_TYPE = "error_type";
}

attributes! { "asyncio":
    GET_RUNNING_LOOP = "get_running_loop";
}

members! { "asyncio", "AbstractEventLoop":
    CALL_SOON_THREADSAFE = "call_soon_threadsafe";
    CREATE_FUTURE = "create_future";
}

members! { "asyncio", "Future":
    FUTURE_AWAIT = "__await__";
    FUTURE_CANCEL = "cancel";
    FUTURE_DONE = "done";
    FUTURE_EXCEPTION = "exception";
    /// Tells the task of asyncio that a coroutine has yielded the future in order to wait for it.
    FUTURE_IS_AWAITED = "_asyncio_future_blocking";
    FUTURE_RESULT = "result";
    FUTURE_SET_EXCEPTION = "set_exception";
    FUTURE_SET_RESULT = "set_result";
}

members! { "asyncio", "Task":
    TASK_GET_CORO = "get_coro";
}

attributes! { "contextvars":
    CONTEXT = "Context";
    COPY_CONTEXT = "copy_context";
}

members! { "contextvars", "Context":
    CONTEXT_RUN = "run";
}

attributes! { "datetime":
    DATETIME = "datetime";
    TIMEDELTA = "timedelta";
    TIMEZONE = "timezone";
}

members! { "datetime", "datetime":
    DATETIME_FROM_TIMESTAMP = "fromtimestamp";
}

members! { "datetime", "timedelta":
    TIMEDELTA_TOTAL_SECONDS = "total_seconds";
}

members! { "datetime", "timezone":
    TIMEZONE_UTC = "utc";
}

attributes! { "inspect":
    COROUTINE_CREATED = "CORO_CREATED";
    COROUTINE_STATE = "getcoroutinestate";
    GENERATOR_CREATED = "GEN_CREATED";
    GENERATOR_STATE = "getgeneratorstate";
    IS_COROUTINE = "iscoroutine";
}

attributes! { "linecache":
    GET_LINE = "getline";
}

attributes! { "logging":
    GET_LOGGER = "getLogger";
}

members! { "logging", "Logger":
    LOGGER_INFO = "info";
    LOGGER_WARNING = "warning";
}

attributes! { "random":
    RANDOM = "Random";
}

members! { "random", "Random":
    RANDOM_BITS = "getrandbits";
}

attributes! { "sys":
    SET_TRACE = "settrace";
}

attributes! { "threading":
    GET_TRACE_OF_THREADS = "gettrace";
}

members! { "types", "CodeType":
    CODE_FILE = "co_filename";
}

members! { "types", "FrameType":
    FRAME_BACK = "f_back";
    FRAME_CODE = "f_code";
    FRAME_LINE = "f_lineno";
}

members! { "types", "FunctionType":
    FUNCTION_CODE = "__code__";
}

attributes! { "uuid":
    UUID = "UUID";
}

attributes! { "warnings":
    WARN_EXPLICIT = "warn_explicit";
}
