//! Deletes instances and prunes past executions. The writer thread runs each deletion in a separate transaction.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use duroxide::providers::{DeleteInstanceResult, InstanceFilter, PruneOptions, PruneResult};
use rusqlite::{Connection, TransactionBehavior, params};

use crate::error::Result;
use crate::failure::Failure;
use crate::history::is_last;
use crate::sqlite::owner::core::OwnerCore;
use crate::sqlite::owner::disk::effect::CommitEffect;
use crate::sqlite::owner::disk::totals::Totals;
use crate::sqlite::owner::memory::ids::Number;
use crate::sqlite::read;

const DELETE: &str = "delete_instances_atomic";
const PRUNE: &str = "prune_executions";
/// How many instances of a bulk deletion one transaction deletes.
const BATCH_SIZE: usize = 100;

/// The statements that delete all rows of an instance, by its number.
const DELETIONS: [&str; 8] = [
    "DELETE FROM events WHERE instance = ?1",
    "DELETE FROM executions WHERE instance = ?1",
    "DELETE FROM messages WHERE instance = ?1",
    "DELETE FROM activities WHERE instance = ?1",
    "DELETE FROM kv WHERE instance = ?1",
    "DELETE FROM kv_changes WHERE instance = ?1",
    "DELETE FROM mismatches WHERE instance = ?1",
    "DELETE FROM instances WHERE number = ?1",
];

impl OwnerCore {
    /// Performs a task that deletes rows, and notes that the log may hold their pages.
    async fn delete_rows<R: Send + 'static>(
        self: &Arc<Self>,
        task: impl FnOnce(&mut Connection, &Self) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        self.log_holds_deleted.store(true, Ordering::Release);
        self.perform(task).await
    }

    /// Deletes instances, all of them or none.
    pub async fn delete(self: &Arc<Self>, ids: &[String], force: bool) -> Result<DeleteInstanceResult> {
        if ids.is_empty() {
            return Ok(DeleteInstanceResult::default());
        }
        let ids = ids.to_vec();
        self.delete_rows(move |connection, core| core.delete_now(connection, &ids, force)).await
    }

    fn delete_now(&self, connection: &mut Connection, ids: &[String], force: bool) -> Result<DeleteInstanceResult> {
        let failed = read::failed(DELETE);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        self.check_files().map_err(failed)?;
        let mut numbers = Vec::with_capacity(ids.len());
        let mut totals = Totals::default();
        for id in ids {
            let Some(status) = read::status(&transaction, id)? else { continue };
            let state = status.status.as_deref().unwrap_or("Running");
            let exists = status.orchestration.is_some();
            let is_starting = !exists && status.starting.is_some();
            if (exists || is_starting) && !force && !is_last(state) {
                return Err(Failure::still_running(DELETE, id));
            }
            if exists {
                totals.instances -= 1;
                totals.count(state, -1);
            }
            if let Some(child) = read::children(&transaction, id)?.into_iter().find(|child| !ids.contains(child)) {
                return Err(Failure::refused(
                    DELETE,
                    format!(
                        "Cannot delete: instance {id} has the child {child}, which has only now been started. Read the \
                         tree again and retry."
                    ),
                ));
            }
            numbers.push(status.number);
        }
        let mut result = DeleteInstanceResult { instances_deleted: ids.len() as u64, ..Default::default() };
        for number in &numbers {
            let mut counts = [0; DELETIONS.len()];
            for (count, sql) in counts.iter_mut().zip(DELETIONS) {
                let deleted =
                    transaction.prepare_cached(sql).and_then(|mut statement| statement.execute(params![number]));
                *count = deleted.map_err(failed)? as u64;
            }
            let [events, executions, messages, activities, ..] = counts;
            result.events_deleted += events;
            result.executions_deleted += executions;
            result.queue_messages_deleted += messages + activities;
            totals.events -= events as i64;
            totals.executions -= executions as i64;
        }
        totals.save(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        self.forget_deleted(numbers);
        if let Some(events) = self.events.get() {
            for id in ids {
                events.deleted(id);
            }
        }
        Ok(result)
    }

    /// Removes deleted instances from memory. Changes to them that the writer still has become void. Later messages are
    /// for a new instance with the same id.
    fn forget_deleted(&self, numbers: Vec<Number>) {
        let mut state = self.lock();
        self.deleted.lock().extend(&numbers);
        state.deletions += 1;
        for number in &numbers {
            state.drop_instance(*number);
        }
        // This effect is sent under the lock, so it comes after every change to one of these instances.
        self.submit_and_forget(None, Vec::new(), CommitEffect::ForgetDeleted(numbers));
    }

    pub async fn delete_bulk(self: &Arc<Self>, filter: InstanceFilter) -> Result<DeleteInstanceResult> {
        if filter.instance_ids.as_ref().is_some_and(Vec::is_empty) {
            return Ok(DeleteInstanceResult::default());
        }
        self.delete_rows(move |connection, core| {
            let mut total = DeleteInstanceResult::default();
            let mut trees: Vec<Vec<String>> = vec![Vec::new()];
            for id in read::to_delete(connection, &filter)? {
                let tree = read::tree(connection, &id)?.all_ids;
                // One transaction deletes a whole tree, or several small trees.
                match trees.last_mut() {
                    Some(last) if last.len() + tree.len() <= BATCH_SIZE => last.extend(tree),
                    _ => trees.push(tree),
                }
            }
            for ids in trees.iter().filter(|ids| !ids.is_empty()) {
                let result = core.delete_now(connection, ids, true)?;
                total.instances_deleted += result.instances_deleted;
                total.executions_deleted += result.executions_deleted;
                total.events_deleted += result.events_deleted;
                total.queue_messages_deleted += result.queue_messages_deleted;
            }
            Ok(total)
        })
        .await
    }

    pub async fn prune(self: &Arc<Self>, id: &str, options: PruneOptions) -> Result<PruneResult> {
        let id = id.to_owned();
        self.delete_rows(move |connection, _| prune_now(connection, &id, &options)).await
    }

    pub async fn prune_bulk(self: &Arc<Self>, filter: InstanceFilter, options: PruneOptions) -> Result<PruneResult> {
        if filter.instance_ids.as_ref().is_some_and(Vec::is_empty) {
            return Ok(PruneResult::default());
        }
        self.delete_rows(move |connection, _| {
            let mut total = PruneResult::default();
            for id in read::to_prune(connection, &filter)? {
                let result = prune_now(connection, &id, &options)?;
                total.instances_processed += result.instances_processed;
                total.executions_deleted += result.executions_deleted;
                total.events_deleted += result.events_deleted;
            }
            Ok(total)
        })
        .await
    }
}

fn prune_now(connection: &mut Connection, id: &str, options: &PruneOptions) -> Result<PruneResult> {
    let failed = read::failed(PRUNE);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let mut result = PruneResult { instances_processed: 1, ..Default::default() };
    let mut totals = Totals::default();
    for execution in read::prunable_executions(&transaction, id, options)? {
        let delete = |sql: &str| {
            transaction
                .prepare_cached(sql)
                .and_then(|mut statement| statement.execute(params![id, execution]))
                .map_err(failed)
        };
        let events = delete(
            "DELETE FROM events WHERE instance = (SELECT number FROM instances WHERE id = ?1) AND execution = ?2",
        )?;
        delete(
            "DELETE FROM executions WHERE instance = (SELECT number FROM instances WHERE id = ?1) AND execution = ?2",
        )?;
        result.executions_deleted += 1;
        result.events_deleted += events as u64;
        totals.executions -= 1;
        totals.events -= events as i64;
    }
    totals.save(&transaction).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(result)
}
