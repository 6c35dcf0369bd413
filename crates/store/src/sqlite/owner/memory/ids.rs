//! The types by which the memory identifies instances, messages and leases.

use std::sync::Arc;

use duroxide::Event;
use parking_lot::Mutex;

/// The number of an instance in the file.
pub type Number = i64;
/// The number of a message or an activity in the file, in order of arrival.
pub type Sequence = i64;
pub type Token = u64;
pub type Version = (u64, u64, u64);
pub type History = Arc<Mutex<Vec<Event>>>;
