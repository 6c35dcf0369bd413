//! Versions of orchestrations: semantic versions, in the order of the engine.

use pyo3::prelude::*;
use pyo3::types::PyString;
use semver::Version;

/// The engine's version of an orchestration that is registered without a version.
pub(crate) const DEFAULT_VERSION: Version = Version::new(1, 0, 0);

/// A semantic version, which Python compares.
#[derive(PartialEq, PartialOrd)]
#[pyclass(frozen, eq, ord, name = "Version", module = "duroxide._native")]
pub(crate) struct ParsedVersion(Version);

/// Reads a semantic version; `None` if the text is something else.
#[pyfunction]
pub(crate) fn parse_version(text: &Bound<'_, PyString>) -> Option<ParsedVersion> {
    Version::parse(text.to_str().ok()?).ok().map(ParsedVersion)
}
