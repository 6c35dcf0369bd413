//! The table of totals: the numbers of instances, executions and events.

use rusqlite::{Connection, params};

/// Differences for the table of totals, which exists because counting a large table takes too long.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub instances: i64,
    pub executions: i64,
    pub running: i64,
    pub completed: i64,
    pub failed: i64,
    pub events: i64,
}

impl Totals {
    /// Counts instances by the status of their current execution.
    pub fn count(&mut self, status: &str, by: i64) {
        match status {
            "Running" => self.running += by,
            "Completed" => self.completed += by,
            "Failed" => self.failed += by,
            // Between two executions, an instance has none of these states.
            _ => {}
        }
    }

    pub fn save(&self, connection: &Connection) -> rusqlite::Result<()> {
        let counts = [
            ("instances", self.instances),
            ("executions", self.executions),
            ("running", self.running),
            ("completed", self.completed),
            ("failed", self.failed),
            ("events", self.events),
        ];
        let mut statement = connection.prepare_cached("UPDATE totals SET value = value + ?2 WHERE name = ?1")?;
        for (name, by) in counts.into_iter().filter(|(_, by)| *by != 0) {
            statement.execute(params![name, by])?;
        }
        Ok(())
    }
}
