//! Pages of summaries, and counts.

use duroxide::{Event, EventKind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use store::listing::{InstanceCount, InstanceQuery, InstanceSummary, ListedStatus, PageRequest, Place};

use crate::boundary::errors::Error;
use crate::client::open_store::OpenStore;
use crate::client::status::RecordedFailure;

/// Which instances a list or a count is about. Python has checked the values.
#[derive(Clone)]
#[pyclass(frozen, from_py_object, name = "InstanceQuery", module = "duroxide._native")]
pub(crate) struct NativeQuery(InstanceQuery);

#[pymethods]
impl NativeQuery {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "one for each condition, all by name in Python")]
    #[pyo3(signature = (
        *, statuses, name, version, id_prefix, parent, created_from, created_to, ended_from, ended_to, has_mismatch
    ))]
    fn new(
        statuses: Vec<String>,
        name: Option<String>,
        version: Option<String>,
        id_prefix: Option<String>,
        parent: Option<String>,
        created_from: Option<u64>,
        created_to: Option<u64>,
        ended_from: Option<u64>,
        ended_to: Option<u64>,
        has_mismatch: Option<bool>,
    ) -> PyResult<Self> {
        let statuses = statuses.iter().map(|name| {
            ListedStatus::from_name(name).ok_or_else(|| PyValueError::new_err(format!("status '{name}' is unknown")))
        });
        Ok(Self(InstanceQuery {
            statuses: statuses.collect::<PyResult<_>>()?,
            name,
            version,
            id_prefix,
            parent,
            created: (created_from, created_to),
            ended: (ended_from, ended_to),
            has_mismatch,
        }))
    }
}

/// A page of a list, and the place of its last instance if there is another page.
#[pyclass(frozen, get_all, module = "duroxide._native")]
pub(crate) struct PageRecord {
    summaries: Vec<Py<SummaryRecord>>,
    next: Option<(i64, String)>,
}

#[pyclass(frozen, get_all, module = "duroxide._native")]
pub(crate) struct SummaryRecord {
    id: String,
    name: String,
    version: Option<String>,
    status: &'static str,
    created_ms: u64,
    started_ms: Option<u64>,
    ended_ms: Option<u64>,
    custom_status: Option<String>,
    failure: Option<String>,
    cancel_reason: Option<String>,
    cleanup_failure: Option<String>,
    termination: Option<String>,
    parent: Option<String>,
    executions: u64,
    has_mismatch: bool,
}

#[pyclass(frozen, get_all, module = "duroxide._native")]
pub(crate) struct CountRecord {
    name: String,
    status: &'static str,
    count: u64,
}

/// The native form of a page, before the interpreter has its records.
pub(super) struct Page {
    summaries: Vec<SummaryRecord>,
    next: Option<Place>,
}

impl<'py> IntoPyObject<'py> for Page {
    type Target = PageRecord;
    type Output = Bound<'py, PageRecord>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PageRecord>> {
        let summaries = self.summaries.into_iter().map(|summary| Py::new(py, summary)).collect::<PyResult<_>>()?;
        Bound::new(py, PageRecord { summaries, next: self.next.map(|place| (place.at, place.id)) })
    }
}

impl OpenStore {
    pub(super) async fn page(
        &self,
        query: NativeQuery,
        is_oldest_first: bool,
        limit: u32,
        after: Option<(i64, String)>,
    ) -> Result<Page, Error> {
        let after = after.map(|(at, id)| Place { at, id });
        let request = PageRequest { query: query.0, is_oldest_first, limit, after };
        let mut listed = self.adapter.page(&request).await?;
        let limit = limit as usize;
        let has_more = listed.len() > limit;
        listed.truncate(limit);
        let next = listed.last().filter(|_| has_more).map(|last| last.place.clone());
        Ok(Page { summaries: listed.into_iter().map(SummaryRecord::from).collect(), next })
    }

    pub(super) async fn counts(&self, query: NativeQuery) -> Result<Vec<CountRecord>, Error> {
        Ok(self.adapter.counts(&query.0).await?.into_iter().map(CountRecord::from).collect())
    }
}

impl From<InstanceSummary> for SummaryRecord {
    fn from(summary: InstanceSummary) -> Self {
        let failure = match summary.status {
            ListedStatus::Failed | ListedStatus::Cancelled | ListedStatus::Terminated => {
                Some(failure(summary.last_event, summary.output))
            }
            ListedStatus::Running | ListedStatus::Completed => None,
        };
        let (failure, cancel_reason, cleanup_failure, termination) = match failure {
            Some(failure) => (Some(failure.text), failure.cancel_reason, failure.cleanup_failure, failure.termination),
            None => (None, None, None, None),
        };
        Self {
            id: summary.id,
            name: summary.name,
            version: summary.version,
            status: summary.status.name(),
            created_ms: summary.created_ms,
            started_ms: summary.started_ms,
            ended_ms: summary.ended_ms,
            custom_status: summary.custom_status,
            failure,
            cancel_reason,
            cleanup_failure,
            termination,
            parent: summary.parent,
            executions: summary.executions,
            has_mismatch: summary.has_mismatch,
        }
    }
}

/// The failure that the last event records. An event that cannot be decoded may be the very reason of the failure.
fn failure(last_event: Option<String>, output: Option<String>) -> RecordedFailure {
    match last_event.and_then(|event| serde_json::from_str::<Event>(&event).ok()).map(|event| event.kind) {
        Some(EventKind::OrchestrationFailed { details }) => RecordedFailure::from(details),
        _ => RecordedFailure::of_text(output),
    }
}

impl From<InstanceCount> for CountRecord {
    fn from(count: InstanceCount) -> Self {
        Self { name: count.name, status: count.status.name(), count: count.count }
    }
}
