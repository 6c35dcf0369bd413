//! What is done to an inbox in one transaction.

use std::path::Path;

use duroxide::providers::WorkItem;
use rusqlite::{OptionalExtension as _, Transaction};

use crate::clock::now_ms;
use crate::error::StoreError;
use crate::sqlite::inbox::database::{Replied, refused, replied};
use crate::sqlite::inbox::request::{Answer, Body, encode_answer};

/// A client that has not read its answer by now will not.
const REPLY_KEPT_MS: u64 = 600_000;

/// The inbox while nobody else can write to it.
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

    /// Puts a request last. With `waits` its answer is kept until it is read.
    pub fn append(&self, body: &Body, waits: bool) -> Result<i64, StoreError> {
        let payload = body.encode()?;
        self.run(|transaction| {
            transaction.prepare_cached("INSERT INTO requests(kind, payload, waits) VALUES (?, ?, ?)")?.execute((
                body.kind(),
                payload.as_str(),
                waits,
            ))?;
            let position = transaction.last_insert_rowid();
            self.announce(position, body)?;
            Ok(position)
        })
    }

    /// Puts `body` in the place of a request, which nobody waits for any more.
    pub fn replace(&self, position: i64, body: &Body) -> Result<(), StoreError> {
        let payload = body.encode()?;
        self.run(|transaction| {
            transaction
                .prepare_cached("UPDATE requests SET payload = ?2, waits = 0 WHERE position = ?1")?
                .execute((position, payload.as_str()))?;
            transaction.prepare_cached("DELETE FROM starts WHERE request = ?")?.execute([position])?;
            self.announce(position, body)
        })
    }

    fn announce(&self, position: i64, body: &Body) -> rusqlite::Result<()> {
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

    /// The orchestration that a request after `done` will start as `instance`, other than the request `but`.
    pub fn starting(&self, instance: &str, done: i64, but: Option<i64>) -> Result<Option<String>, StoreError> {
        self.run(|transaction| {
            transaction
                .prepare_cached(
                    "SELECT orchestration FROM starts WHERE instance = ?1 AND request > ?2 AND request IS NOT ?3",
                )?
                .query_row((instance, done, but), |row| row.get(0))
                .optional()
        })
    }

    pub fn replied(&self, position: i64) -> Result<Replied, StoreError> {
        self.run(|transaction| replied(transaction, position))
    }

    /// Removes a request, and says for whom waits what became of it. For whom does not wait it was promised: where the store
    /// failed, it stays for the next owner.
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

    /// The requests up to `position`, which an earlier owner has carried out.
    pub fn up_to(&self, position: i64) -> Result<Vec<i64>, StoreError> {
        self.run(|transaction| {
            let mut statement = transaction.prepare_cached("SELECT position FROM requests WHERE position <= ?")?;
            statement.query_map([position], |row| row.get(0))?.collect()
        })
    }

    pub fn last(&self) -> Result<i64, StoreError> {
        self.run(|transaction| {
            transaction.query_row("SELECT coalesce(max(position), 0) FROM requests", [], |row| row.get(0))
        })
    }

    /// Removes answers that nobody will read.
    pub fn forget_old_replies(&self) -> Result<(), StoreError> {
        let before = now_ms().saturating_sub(REPLY_KEPT_MS) as i64;
        self.run(|transaction| {
            transaction.prepare_cached("DELETE FROM replies WHERE created_ms < ?")?.execute([before]).map(|_| ())
        })
    }

    fn run<T>(&self, run: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        run(&self.transaction).map_err(|error| {
            let file = self.transaction.path().unwrap_or_default().to_owned();
            refused(Path::new(&file), &error)
        })
    }
}
