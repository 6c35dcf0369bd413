//! The rows of the queues that no node can lease because of a value: a time that never comes, or one that the server
//! refuses to calculate with. The log names each row, and a metric counts them.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a node leaves out a row that the server refuses, and how often it looks for rows that are never due.
pub const PAUSE: Duration = Duration::from_secs(60);
/// The limit for the rows that a node remembers.
const MOST_ROWS: usize = 1_000;

/// A row of a queue that cannot be leased.
pub struct LeftOutRow {
    pub table: String,
    pub id: i64,
    pub instance: Option<String>,
    /// What is wrong with it.
    pub fact: String,
}

/// The rows that this node has named in the log, and until when they count.
#[derive(Default)]
pub struct LeftOutRows {
    rows: Mutex<HashMap<(String, i64), Instant>>,
}

impl LeftOutRows {
    /// Counts a row, and names it in the log, unless an earlier look did.
    pub fn report(&self, schema: &str, row: &LeftOutRow) {
        if !self.note(row) {
            return;
        }
        let LeftOutRow { table, id, instance, fact } = row;
        tracing::error!(
            target: "duroxide::store",
            "row {id} of the table {schema}.{table} is left out: {fact} (instance {instance:?}); repair or delete the row"
        );
    }

    /// Notes a row until it is looked at twice more. Returns whether it is new.
    fn note(&self, row: &LeftOutRow) -> bool {
        let mut rows = self.rows.lock();
        retain_present(&mut rows);
        if rows.len() >= MOST_ROWS {
            return false;
        }
        rows.insert((row.table.clone(), row.id), Instant::now() + 2 * PAUSE).is_none()
    }

    pub fn count(&self) -> usize {
        let mut rows = self.rows.lock();
        retain_present(&mut rows);
        rows.len()
    }
}

fn retain_present(rows: &mut HashMap<(String, i64), Instant>) {
    let now = Instant::now();
    rows.retain(|_, until| *until > now);
}
