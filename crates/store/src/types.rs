//! What a store is and what it says of an instance.

/// Where a store keeps its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Memory,
    Sqlite,
    Postgres,
}

/// The state of an instance, as its current execution has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceState {
    pub status: String,
    pub output: Option<String>,
    pub custom_status: Option<String>,
    /// How often the custom status was set.
    pub custom_status_version: u64,
}

/// When a store in a file calls something recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After the disk has synced it. A power failure loses nothing that was acknowledged.
    Full,
    /// After the operating system has it. A power failure may lose the last moments; the end of a process does not.
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
