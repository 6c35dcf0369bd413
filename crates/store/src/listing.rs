//! Lists and counts of instances: what a client asks for, and what a store answers.

/// The status of an instance in a list. It tells a cancellation and a termination from other failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListedStatus {
    Running,
    Completed,
    Failed,
    Cancelled,
    Terminated,
}

impl ListedStatus {
    pub const ALL: [Self; 5] = [Self::Running, Self::Completed, Self::Failed, Self::Cancelled, Self::Terminated];

    /// The statuses of the instances whose recorded status is `"Failed"`.
    pub const FAILURES: [Self; 3] = [Self::Failed, Self::Cancelled, Self::Terminated];

    /// The status of an instance, from the status that is recorded for its current execution, and its last event.
    pub fn of(recorded: Option<&str>, last_event: Option<&str>) -> Self {
        let has = |part| last_event.is_some_and(|event| event.contains(part));
        match recorded {
            Some("Completed") => Self::Completed,
            Some("Failed") if !has(CANCELLED_END) => Self::Failed,
            Some("Failed") if !has(TERMINATED_END) => Self::Cancelled,
            Some("Failed") => Self::Terminated,
            _ => Self::Running,
        }
    }

    /// The same, where the database has looked for [`CANCELLED_END`] and [`TERMINATED_END`] and found so many of them.
    pub fn of_ends(recorded: Option<&str>, ends: i32) -> Self {
        match (recorded, ends) {
            (Some("Completed"), _) => Self::Completed,
            (Some("Failed"), 0) => Self::Failed,
            (Some("Failed"), 1) => Self::Cancelled,
            (Some("Failed"), _) => Self::Terminated,
            _ => Self::Running,
        }
    }

    /// How many of [`CANCELLED_END`] and [`TERMINATED_END`] the last event of a failure with this status has.
    pub fn ends(self) -> i32 {
        match self {
            Self::Cancelled => 1,
            Self::Terminated => 2,
            Self::Running | Self::Completed | Self::Failed => 0,
        }
    }

    /// The name that Python uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::Terminated => "Terminated",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// A part of the last event of an instance that was cancelled or terminated. No other event has it: a text inside the
/// event would have escaped quotation marks.
pub const CANCELLED_END: &str = r#""details":{"Application":{"kind":{"Cancelled":"#;
/// A part that the last event of a terminated instance has beside [`CANCELLED_END`], and that of a cancelled one lacks.
pub const TERMINATED_END: &str = r#""retryable":true"#;

/// A span of time in ms since the epoch; each end may be open. It includes its start and not its end.
pub type Span = (Option<u64>, Option<u64>);

/// Which instances a list or a count is about. The default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceQuery {
    /// Empty for every status.
    pub statuses: Vec<ListedStatus>,
    pub name: Option<String>,
    pub version: Option<String>,
    pub id_prefix: Option<String>,
    pub parent: Option<String>,
    pub created: Span,
    pub ended: Span,
    pub has_mismatch: Option<bool>,
}

impl InstanceQuery {
    pub fn wants(&self, status: ListedStatus) -> bool {
        self.statuses.is_empty() || self.statuses.contains(&status)
    }

    /// Whether the query is about instances that have failed, were cancelled or were terminated, and no others.
    pub fn is_about_failures(&self) -> bool {
        !self.statuses.is_empty() && self.statuses.iter().all(|status| ListedStatus::FAILURES.contains(status))
    }

    /// Whether the query may select instances that fit none of the others: those whose starts no turn has read.
    pub fn wants_starting(&self) -> bool {
        self.wants(ListedStatus::Running)
            && self.version.is_none()
            && self.ended == (None, None)
            && self.has_mismatch != Some(true)
    }
}

/// The place of an instance in the order of all instances. It stays while other instances come and go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Grows from instance to instance: a number, or the time of the start.
    pub at: i64,
    /// Decides between instances of the same time.
    pub id: String,
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct PageRequest {
    pub query: InstanceQuery,
    pub is_oldest_first: bool,
    pub limit: u32,
    /// The last place of the page before.
    pub after: Option<Place>,
}

/// What a list tells of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceSummary {
    pub place: Place,
    pub id: String,
    pub name: String,
    /// `None` until the first turn is recorded.
    pub version: Option<String>,
    pub status: ListedStatus,
    pub created_ms: u64,
    /// When the first turn was recorded.
    pub started_ms: Option<u64>,
    pub ended_ms: Option<u64>,
    pub custom_status: Option<String>,
    /// The last event of an instance that has failed, as JSON.
    pub last_event: Option<String>,
    /// The recorded text of a failure, where the last event cannot be read.
    pub output: Option<String>,
    pub parent: Option<String>,
    /// How many executions there were, with the current one.
    pub executions: u64,
    pub has_mismatch: bool,
}

/// How many instances of a name have a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceCount {
    pub name: String,
    pub status: ListedStatus,
    pub count: u64,
}

/// Adds a count to that of the same name and status: two recorded statuses may be one here.
pub fn add_count(counts: &mut Vec<InstanceCount>, counted: InstanceCount) {
    match counts.iter_mut().find(|sum| sum.name == counted.name && sum.status == counted.status) {
        Some(sum) => sum.count += counted.count,
        None => counts.push(counted),
    }
}

/// The first text that is greater than every text with this prefix, by bytes; `None` if there is none.
pub fn after_prefix(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // The code points between U+D7FF and U+E000 are no characters.
        let next = (u32::from(last) + 1..=0x0010_FFFF).find_map(char::from_u32);
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_after_a_prefix_is_greater_than_all_texts_with_it() {
        assert_eq!(after_prefix("order-"), Some("order.".to_owned()));
        assert_eq!(after_prefix("a\u{10FFFF}"), Some("b".to_owned()));
        assert_eq!(after_prefix("\u{D7FF}"), Some("\u{E000}".to_owned()));
        assert_eq!(after_prefix("\u{10FFFF}"), None);
        assert_eq!(after_prefix(""), None);
    }

    #[test]
    fn a_status_has_one_name_both_ways() {
        for status in ListedStatus::ALL {
            assert_eq!(ListedStatus::from_name(status.name()), Some(status));
        }
        assert_eq!(ListedStatus::from_name("ContinuedAsNew"), None);
    }
}
