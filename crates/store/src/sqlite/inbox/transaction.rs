//! One transaction on an inbox.

use std::path::Path;

use duroxide::providers::WorkItem;
use rusqlite::{OptionalExtension as _, Transaction};

use crate::clock::now_ms;
use crate::error::StoreError;
use crate::sqlite::inbox::database::{RequestState, inbox_error, request_state};
use crate::sqlite::inbox::request::{Answer, Body, encode_answer};

/// How long an answer is kept. A client that has not read its answer by then has ended.
const REPLY_LIFETIME_MS: u64 = 600_000;

/// The inbox while no other process can write to it.
pub struct InboxTransaction<'a> {
    transaction: Transaction<'a>,
}

impl<'a> InboxTransaction<'a> {
    pub fn new(transaction: Transaction<'a>) -> Self {
        Self { transaction }
    }

    pub fn commit(self) -> rusqlite::Result<()> {
        self.transaction.commit()
    }

    /// Appends a request. With `waits`, the inbox keeps the answer for the client.
    pub fn append(&self, body: &Body, waits: bool) -> Result<i64, StoreError> {
        let payload = body.encode()?;
        self.run(|transaction| {
            transaction.prepare_cached("INSERT INTO requests(kind, payload, waits) VALUES (?, ?, ?)")?.execute((
                body.kind(),
                payload.as_str(),
                waits,
            ))?;
            let position = transaction.last_insert_rowid();
            self.record_starts(position, body)?;
            Ok(position)
        })
    }

    /// Replaces a request by `body`. No client waits for its answer any longer.
    pub fn replace(&self, position: i64, body: &Body) -> Result<(), StoreError> {
        let payload = body.encode()?;
        self.run(|transaction| {
            transaction
                .prepare_cached("UPDATE requests SET payload = ?2, waits = 0 WHERE position = ?1")?
                .execute((position, payload.as_str()))?;
            transaction.prepare_cached("DELETE FROM starts WHERE request = ?")?.execute([position])?;
            self.record_starts(position, body)
        })
    }

    fn record_starts(&self, position: i64, body: &Body) -> rusqlite::Result<()> {
        let mut statement = self.transaction.prepare_cached("INSERT OR IGNORE INTO starts VALUES (?, ?, ?)")?;
        match body {
            Body::Start { requests, .. } => {
                for request in requests {
                    statement.execute((&request.instance, position, &request.orchestration))?;
                }
            }
            Body::Messages { items, .. } => {
                for item in items {
                    if let WorkItem::StartOrchestration { instance, orchestration, .. } = item {
                        statement.execute((instance, position, orchestration))?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The orchestration that a request after `completed`, except the request `except`, will start as `instance`.
    pub fn starting(&self, instance: &str, completed: i64, except: Option<i64>) -> Result<Option<String>, StoreError> {
        self.run(|transaction| {
            transaction
                .prepare_cached(
                    "SELECT orchestration FROM starts WHERE instance = ?1 AND request > ?2 AND request IS NOT ?3",
                )?
                .query_row((instance, completed, except), |row| row.get(0))
                .optional()
        })
    }

    pub fn request_state(&self, position: i64) -> Result<RequestState, StoreError> {
        self.run(|transaction| request_state(transaction, position))
    }

    /// Removes a request, and writes the answer if a client waits for it. A request without a waiting client was
    /// promised, so it stays for the next owner if the store failed.
    pub fn answer(&self, position: i64, answer: &Answer) -> Result<(), StoreError> {
        let payload = encode_answer(answer)?;
        self.run(|transaction| {
            transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO replies SELECT position, ?2, ?3 FROM requests WHERE position = ?1 AND waits",
                )?
                .execute((position, payload.as_str(), now_ms() as i64))?;
            Ok(())
        })?;
        if matches!(answer, Err(StoreError::Failed(_) | StoreError::Unavailable(_) | StoreError::Closed)) {
            let is_promised = "SELECT EXISTS (SELECT 1 FROM requests WHERE position = ? AND NOT waits)";
            if self
                .run(|transaction| transaction.prepare_cached(is_promised)?.query_row([position], |row| row.get(0)))?
            {
                return Ok(());
            }
        }
        self.remove(position)
    }

    pub fn remove(&self, position: i64) -> Result<(), StoreError> {
        self.run(|transaction| {
            transaction.prepare_cached("DELETE FROM requests WHERE position = ?")?.execute([position])?;
            transaction.prepare_cached("DELETE FROM starts WHERE request = ?")?.execute([position])?;
            Ok(())
        })
    }

    pub fn name(&self) -> Result<String, StoreError> {
        self.run(|transaction| transaction.prepare_cached("SELECT name FROM meta")?.query_row([], |row| row.get(0)))
    }

    /// The positions of the requests up to `position`, which an earlier owner has carried out.
    pub fn positions_up_to(&self, position: i64) -> Result<Vec<i64>, StoreError> {
        self.run(|transaction| {
            let mut statement = transaction.prepare_cached("SELECT position FROM requests WHERE position <= ?")?;
            statement.query_map([position], |row| row.get(0))?.collect()
        })
    }

    pub fn last_position(&self) -> Result<i64, StoreError> {
        self.run(|transaction| {
            transaction.query_row("SELECT coalesce(max(position), 0) FROM requests", [], |row| row.get(0))
        })
    }

    /// Deletes answers whose clients have ended.
    pub fn delete_old_replies(&self) -> Result<(), StoreError> {
        let before = now_ms().saturating_sub(REPLY_LIFETIME_MS) as i64;
        self.run(|transaction| {
            transaction.prepare_cached("DELETE FROM replies WHERE created_ms < ?")?.execute([before]).map(|_| ())
        })
    }

    fn run<T>(&self, run: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        run(&self.transaction).map_err(|error| {
            let file = self.transaction.path().unwrap_or_default().to_owned();
            inbox_error(Path::new(&file), &error)
        })
    }
}
