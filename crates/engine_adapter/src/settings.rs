//! The settings of one dispatcher.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use duroxide::providers::TagFilter;
use semver::Version;

/// The policy for an instance whose code no longer matches its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nondeterminism {
    /// The instance waits for code that fits.
    #[default]
    Wait,
    /// The instance fails, as with the engine alone.
    Fail,
}

/// The policy for work whose function no runtime of this process has registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unregistered {
    /// The work waits for the code.
    #[default]
    Wait,
    /// The work fails. Where other processes may have the code, it is left to them for this time first.
    Fail { after: Duration },
}

/// How much a runtime runs at the same time, and of which tags.
#[derive(Debug, Clone, Default)]
pub struct Capacity {
    pub orchestration_slots: usize,
    pub worker_slots: usize,
    pub max_sessions: usize,
    pub tags: TagFilter,
}

/// The functions that a runtime can run, and its rules for functions and code that do not fit.
#[derive(Debug, Clone)]
pub struct DispatcherSettings {
    pub activities: HashSet<String>,
    pub orchestrations: HashMap<String, Vec<Version>>,
    pub unregistered: Unregistered,
    /// How often a message may be tried. After that the engine treats it as poison, and runs nothing.
    pub max_attempts: u32,
    pub nondeterminism: Nondeterminism,
    pub capacity: Capacity,
    /// The name that the user has given to the node.
    pub node_name: Option<String>,
    /// Whether the runtime may come back under the name that its sessions know.
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
