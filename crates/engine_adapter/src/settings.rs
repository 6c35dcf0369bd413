//! What one runtime can run, and how it looks for work.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use semver::Version;

/// What becomes of an instance whose code no longer matches its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nondeterminism {
    /// It waits for the code that fits.
    #[default]
    Wait,
    /// It ends, as with the engine alone.
    Fail,
}

/// What a runtime can run, and how it looks for work.
#[derive(Debug, Clone)]
pub struct DispatcherSettings {
    pub activities: HashSet<String>,
    pub orchestrations: HashMap<String, Vec<Version>>,
    /// How long a name that this runtime lacks is left to other nodes.
    pub unregistered_timeout: Duration,
    /// Beyond this the engine takes a message for poison and runs nothing.
    pub max_attempts: u32,
    pub nondeterminism: Nondeterminism,
    /// Whether it may come back under the name that its sessions know.
    pub returns_by_name: bool,
}

impl DispatcherSettings {
    pub fn has_orchestration(&self, name: &str, version: Option<&str>) -> bool {
        self.orchestrations.get(name).is_some_and(|registered| match version {
            None => !registered.is_empty(),
            Some(version) => Version::parse(version).is_ok_and(|version| registered.contains(&version)),
        })
    }
}
