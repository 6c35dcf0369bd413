//! Types that all stores share: the kinds of stores, the state of an instance, durability.

/// Where a store keeps its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Memory,
    Sqlite,
    Postgres,
}

/// The state of an instance in its current execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceState {
    pub status: String,
    pub output: Option<String>,
    pub custom_status: Option<String>,
    /// How often the custom status was set.
    pub custom_status_version: u64,
}

impl InstanceState {
    /// The state of an instance whose start no turn has read yet.
    pub fn starting() -> Self {
        Self { status: "Running".to_owned(), output: None, custom_status: None, custom_status_version: 0 }
    }
}

/// When a store in a file counts a change as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After the disk has synced the change. A power failure loses no acknowledged change.
    Full,
    /// After the operating system has the change. A power failure may lose the last changes; the end of a process does
    /// not.
    Normal,
}

impl Durability {
    /// The name that Python uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
        }
    }
}
