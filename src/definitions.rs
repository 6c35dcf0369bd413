//! What a runtime can run: the functions that Python registered, with the annotations of what they take and give.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use semver::Version;

use crate::boundary::errors::ConfigurationError;
use crate::boundary::version::DEFAULT_VERSION;

#[derive(FromPyObject)]
pub(crate) struct ActivityDefinition {
    pub(crate) name: String,
    pub(crate) function: Py<PyAny>,
    pub(crate) input_type: Option<Py<PyAny>>,
    pub(crate) result_type: Option<Py<PyAny>>,
}

#[derive(FromPyObject)]
pub(crate) struct OrchestrationDefinition {
    pub(crate) name: String,
    version: Option<String>,
    pub(crate) function: Py<PyAny>,
    pub(crate) input_type: Option<Py<PyAny>>,
    pub(crate) result_type: Option<Py<PyAny>>,
}

impl OrchestrationDefinition {
    fn semver(&self) -> PyResult<Version> {
        let Some(text) = &self.version else { return Ok(DEFAULT_VERSION) };
        Version::parse(text).map_err(|error| {
            ConfigurationError::new_err(format!(
                "the version '{text}' of orchestration '{}' is not a semantic version: {error}",
                self.name
            ))
        })
    }
}

/// Everything that one runtime has registered.
#[derive(Default)]
pub(crate) struct Definitions {
    pub(crate) activities: HashMap<String, Arc<ActivityDefinition>>,
    orchestrations: HashMap<String, Vec<(Version, Arc<OrchestrationDefinition>)>>,
    /// Orchestrations are watched for calls that replay cannot repeat.
    pub(crate) is_strict: bool,
    /// How long a coroutine may take to clean up after it was asked to end.
    pub(crate) cleanup_timeout: Duration,
}

impl Definitions {
    pub(crate) fn new(
        activities: Vec<ActivityDefinition>,
        orchestrations: Vec<OrchestrationDefinition>,
        cleanup_timeout: Duration,
        is_strict: bool,
    ) -> PyResult<Self> {
        let mut definitions = Self { is_strict, cleanup_timeout, ..Self::default() };
        for activity in activities {
            definitions.activities.insert(activity.name.clone(), Arc::new(activity));
        }
        for orchestration in orchestrations {
            let version = orchestration.semver()?;
            let versions = definitions.orchestrations.entry(orchestration.name.clone()).or_default();
            versions.push((version, Arc::new(orchestration)));
        }
        // The engine registers the versions of a name in ascending order.
        for versions in definitions.orchestrations.values_mut() {
            versions.sort_by(|(left, _), (right, _)| left.cmp(right));
        }
        Ok(definitions)
    }

    /// Every orchestration with its version, the versions of a name in ascending order.
    pub(crate) fn orchestrations(&self) -> impl Iterator<Item = (&Version, &Arc<OrchestrationDefinition>)> {
        self.orchestrations.values().flatten().map(|(version, definition)| (version, definition))
    }

    pub(crate) fn activity_names(&self) -> HashSet<String> {
        self.activities.keys().cloned().collect()
    }

    pub(crate) fn orchestration_versions(&self) -> HashMap<String, Vec<Version>> {
        let names = self.orchestrations.iter();
        names
            .map(|(name, versions)| (name.clone(), versions.iter().map(|(version, _)| version.clone()).collect()))
            .collect()
    }

    /// The annotation of what an activity returns, where it is registered here and has one.
    pub(crate) fn activity_result(&self, py: Python<'_>, name: &str) -> Option<Py<PyAny>> {
        self.activities.get(name)?.result_type.as_ref().map(|annotation| annotation.clone_ref(py))
    }

    /// The annotation of what the newest version of an orchestration returns.
    pub(crate) fn orchestration_result(&self, py: Python<'_>, name: &str) -> Option<Py<PyAny>> {
        let (_, definition) = self.orchestrations.get(name)?.last()?;
        definition.result_type.as_ref().map(|annotation| annotation.clone_ref(py))
    }
}
