//! The queries on a store's file. Each answer comes from one statement, so that it shows the store at one moment.
//!
//! The owner and the clients use the same functions, the owner also inside its transactions. An instance exists for
//! the engine once its first turn is recorded. Before that, its row stands for a waiting start or early messages.
//!
//! - [`starts`] has the starts that no turn has read yet, and [`live`] what waits for one instance.
//! - [`status`](mod@status) has the state of one instance, [`history`](mod@history) its events, and [`values`] its
//!   key-value pairs and sizes.
//! - [`listing`] has pages of summaries and counts. [`admin`] has lists of ids and the selection for bulk operations.
//!   [`backup`] copies the store.
//! - [`pool`] has the connections that only read. [`query`] runs one query.

pub mod admin;
pub mod backup;
pub mod history;
pub mod listing;
pub mod live;
pub mod pool;
pub mod query;
pub mod starts;
pub mod status;
#[cfg(test)]
pub mod tests;
pub mod values;

pub use crate::sqlite::read::admin::{
    Page, children, execution_info, executions, instance_info, latest_execution, list, list_by_status, parent,
    prunable_executions, queue_depths, system_metrics, to_delete, to_prune, tree,
};
pub use crate::sqlite::read::backup::back_up;
pub use crate::sqlite::read::history::{history, read, read_execution};
pub use crate::sqlite::read::live::live_state;
pub use crate::sqlite::read::pool::{Readers, open};
pub use crate::sqlite::read::query::{failed, signed};
pub use crate::sqlite::read::starts::{count_waiting_starts, waiting_children, waiting_start, waiting_starts};
pub use crate::sqlite::read::status::{ended, inbox_position, instance_state, mismatch, mismatched, status};
pub use crate::sqlite::read::values::{custom_status, instance_stats, kv_all, kv_snapshot, kv_value};
