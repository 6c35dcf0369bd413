//! The owner of a file: its memory contains the work, one thread writes to the file, and an acknowledged operation is
//! on the disk.
//!
//! - `memory` has the instances, the queues, the leases and the timers.
//! - `operations` change the memory, and send changes to the writer thread.
//! - `disk` writes the changes, and makes their effects visible.
//! - `core` is shared by all of them. `timers` makes messages and activities visible when they are due. `provider` is
//!   the engine's view of the owner, and `options` what it is opened with.

pub mod core;
pub mod disk;
pub mod memory;
pub mod operations;
pub mod options;
pub mod provider;
#[cfg(test)]
pub mod tests;
pub mod timers;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use crossbeam_channel::RecvTimeoutError;
use duroxide::providers::WorkItem;
use parking_lot::Mutex;

use crate::code_time::CodeTime;
use crate::error::{Result, StoreError};
use crate::events::StoreEvents;
use crate::listing::{InstanceCount, InstanceQuery, InstanceSummary, PageRequest};
use crate::live::LiveState;
use crate::operations::AdminOperations as _;
use crate::sqlite::owner::core::{DISK_TIMEOUT, OwnerCore};
use crate::sqlite::owner::disk::job::{WriterJob, Written};
pub use crate::sqlite::owner::operations::messages::InboxPosition;
pub use crate::sqlite::owner::options::OwnerOptions;
use crate::sqlite::read;
use crate::start::{IfExists, StartOutcome, StartRequest, WaitingStart};
use crate::termination::{SeizedTurn, SeizesTurns, TERMINATE, Termination, terminate};
use crate::types::InstanceState;

/// The owner of a file, or of a store in memory. Closing it ends its threads.
pub struct Owner {
    core: Arc<OwnerCore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held by one relay of an outbox at a time.
    relay_lock: tokio::sync::Mutex<()>,
    /// Held by one termination at a time. Two that took the turns of an instance from each other might never end.
    termination_lock: tokio::sync::Mutex<()>,
}

/// Changes that the writer thread has not yet confirmed.
pub struct PendingChanges(Written);

impl Owner {
    /// Becomes the owner of a file: loads the waiting work, and starts the threads.
    pub fn open(opening: OwnerOptions) -> Result<Arc<Self>, StoreError> {
        let (jobs, receiver) = crossbeam_channel::unbounded();
        let core = Arc::new(OwnerCore::load(opening, jobs)?);
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map_err(|error| StoreError::Unavailable(format!("a thread could not be started: {error}")))
        };
        let writer = Arc::clone(&core);
        let timers = Arc::clone(&core);
        let threads = vec![
            spawn("duroxide-writer", Box::new(move || disk::writer::run(writer, receiver)))?,
            spawn("duroxide-timers", Box::new(move || timers::run(&timers)))?,
        ];
        Ok(Arc::new(Self {
            core,
            threads: Mutex::new(threads),
            relay_lock: tokio::sync::Mutex::default(),
            termination_lock: tokio::sync::Mutex::default(),
        }))
    }

    /// Starts instances, all of them or none.
    pub async fn start(
        &self,
        requests: Vec<StartRequest>,
        if_exists: IfExists,
    ) -> Result<Vec<StartOutcome>, StoreError> {
        self.core.admit("start_orchestration").await?;
        let (outcomes, pending) = self.submit_starts(requests, if_exists, None)?;
        self.core.wait_until_written_or_stalled(pending.0).await?;
        Ok(outcomes)
    }

    /// Sends messages, all of them or none.
    pub async fn send(&self, messages: Vec<WorkItem>) -> Result<()> {
        self.core.send_messages(messages, 0).await
    }

    /// As [`Self::start`], without waiting for the disk.
    pub fn submit_starts(
        &self,
        requests: Vec<StartRequest>,
        if_exists: IfExists,
        position: Option<InboxPosition>,
    ) -> Result<(Vec<StartOutcome>, PendingChanges), StoreError> {
        let (outcomes, written) = self.core.submit_starts(requests, if_exists, position)?;
        Ok((outcomes, PendingChanges(written)))
    }

    /// As [`Self::send`], without waiting for the disk.
    pub fn submit_messages(
        &self,
        messages: Vec<WorkItem>,
        visible_ms: u64,
        position: Option<InboxPosition>,
    ) -> Result<PendingChanges> {
        self.core.submit_messages(messages, visible_ms, position).map(PendingChanges)
    }

    /// Waits until the changes are on the disk.
    pub async fn wait_until_written(&self, pending: PendingChanges) -> Result<()> {
        self.core.wait_until_written(pending.0).await
    }

    /// Records the position up to which an inbox was carried out.
    pub async fn note_position(&self, position: InboxPosition) -> Result<()> {
        self.core.wait_until_written(self.core.write(Vec::new(), Vec::new(), Some(position))).await
    }

    /// The position up to which the inbox of that name was carried out.
    pub fn inbox_position(&self, inbox: &str) -> Result<i64> {
        self.core.read("read_inbox", |connection| read::inbox_position(connection, inbox))
    }

    /// The orchestration that an instance runs, or that a waiting start will run.
    pub fn running(&self, id: &str) -> Result<Option<String>> {
        Ok(self.core.running(id)?.map(|orchestration| orchestration.to_string()))
    }

    /// Which of these instances have ended.
    pub fn ended(&self, ids: &[String]) -> Result<HashSet<String>> {
        self.core.ended(ids)
    }

    pub fn instance_state(&self, id: &str) -> Result<Option<InstanceState>> {
        self.core.read("get_instance_info", |connection| read::instance_state(connection, id))
    }

    pub fn page(&self, request: &PageRequest) -> Result<Vec<InstanceSummary>> {
        self.core.read("list", |connection| read::listing::page(connection, request))
    }

    pub fn counts(&self, query: &InstanceQuery) -> Result<Vec<InstanceCount>> {
        self.core.read("count", |connection| read::listing::counts(connection, query))
    }

    pub fn waiting_start(&self, id: &str) -> Result<Option<WaitingStart>> {
        self.core.read("get_instance_info", |connection| read::waiting_start(connection, id))
    }

    pub fn waiting_starts(&self) -> Result<Vec<String>> {
        self.core.read("list_instances", read::waiting_starts)
    }

    pub fn count_waiting_starts(&self) -> Result<u64> {
        self.core.read("get_system_metrics", read::count_waiting_starts)
    }

    pub fn waiting_children(&self, parents: &[String]) -> Result<Vec<String>> {
        self.core.read("list_children", |connection| read::waiting_children(connection, parents))
    }

    pub fn mismatch(&self, id: &str) -> Result<Option<String>> {
        self.core.read("get_instance_info", |connection| read::mismatch(connection, id))
    }

    /// Takes back that deliveries count, whose leases stay.
    pub async fn uncount(&self, turns: &[String], activities: &[String]) -> Result<()> {
        self.core.uncount(turns, activities).await
    }

    /// Makes all work due that a runtime has put off.
    pub fn end_pauses(&self) {
        self.core.lock().end_pauses();
    }

    pub fn mismatched(&self) -> Result<Vec<String>> {
        self.core.read("get_system_metrics", read::mismatched)
    }

    /// Records the mismatch report of an instance. The next recorded turn removes it.
    pub fn note_mismatch(&self, id: &str, report: &str) {
        self.core.note_mismatch(id, report);
    }

    /// Copies the committed state into a new file. The work continues at the same time.
    pub fn back_up(&self, target: &Path) -> Result<()> {
        self.core.read("backup", |connection| read::back_up(connection, target))
    }

    /// Reports deletions to `events`, and asks it what this process can run.
    pub fn report_to(&self, events: Arc<dyn StoreEvents>) {
        // Only the first subscriber counts.
        self.core.events.set(events).ok();
    }

    /// Terminates an instance and, if asked, all below it. Returns the instances that this call has ended.
    pub async fn terminate(&self, request: &Termination) -> Result<Vec<String>> {
        self.core.admit(TERMINATE).await?;
        let ended = {
            let _termination = self.termination_lock.lock().await;
            terminate(self, request).await?
        };
        if let Some(events) = self.core.events.get() {
            for instance in &ended {
                events.terminated(instance);
            }
        }
        Ok(ended)
    }

    /// What is under way for an instance, and what this process can run.
    pub fn live_state(&self, id: &str) -> LiveState {
        let mut live = self.core.live_state(id);
        let Some(mut report) = self.core.events.get().and_then(|events| events.report()) else { return live };
        for runtime in &mut report.runtimes {
            runtime.sessions = self.core.count_sessions(&runtime.session_workers);
        }
        let leases = live.activities.iter_mut().filter_map(|activity| activity.lease.as_mut());
        for lease in leases.chain(&mut live.turn) {
            lease.node = Some(report.id.clone());
        }
        live.add_node(report);
        live
    }

    pub fn extend_lease_while_running(&self, token: &str, code_time: &Arc<CodeTime>) {
        if let Ok(token) = token.parse() {
            self.core.lock().extend_lease_while_running(token, code_time);
        }
    }

    /// Whether the path of the store still leads to the file that was opened. If not, the work on the file has ended.
    pub fn has_its_file(&self) -> bool {
        if let Err(error) = self.core.check_files() {
            self.core.health.fail(&error.to_string());
        }
        self.core.health.broken().is_none()
    }

    /// Closes the store. Returns when all submitted changes are on the disk, or cannot be written.
    pub async fn close(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        if threads.is_empty() {
            return;
        }
        let core = Arc::clone(&self.core);
        let closed = tokio::task::spawn_blocking(move || {
            if core.health.stalled().is_some() || core.health.broken().is_some() {
                core.health.begin_closing();
            }
            let (sender, stopped) = crossbeam_channel::bounded(1);
            core.send(WriterJob::Stop(sender));
            while stopped.recv_timeout(DISK_TIMEOUT) == Err(RecvTimeoutError::Timeout)
                && core.health.stalled().is_none()
            {
                // The writer thread still works. The loop ends if the disk stops accepting writes.
            }
            core.health.begin_closing();
            timers::stop(&core);
            for thread in threads {
                // A thread that panicked has reported that itself.
                thread.join().ok();
            }
            // The waiting fetches end without work.
            drop(core.lock().take_waiters());
            core.close_file();
        })
        .await;
        if let Err(error) = closed {
            tracing::error!(target: "duroxide::store", "{} could not be closed: {error}", self.core.description);
        }
    }
}

#[async_trait]
impl SeizesTurns for Owner {
    async fn seize_turn(&self, instance: &str) -> Result<Option<SeizedTurn>> {
        self.core.seize_turn(instance).await
    }

    async fn all_children(&self, instance: &str) -> Result<Vec<String>> {
        let mut children = self.list_children(instance).await?;
        children.extend(self.waiting_children(&[instance.to_owned()])?);
        Ok(children)
    }
}

#[cfg(test)]
impl Owner {
    /// Makes the history of an instance unreadable.
    pub fn corrupt_history(&self, id: &str) {
        let connection = self.core.connection.lock();
        let sql = "UPDATE events SET data = '?' WHERE instance = (SELECT number FROM instances WHERE id = ?1)";
        connection.execute(sql, [id]).unwrap();
        drop(connection);
        let number = self.core.lock().numbers.get(id).copied();
        if let Some(number) = number
            && let Some(instance) = self.core.lock().get(number)
        {
            instance.history = None;
            instance.gate = None;
        }
    }

    /// The highest number of attempts among the messages of an instance.
    pub fn attempts(&self, id: &str) -> u32 {
        let mut state = self.core.lock();
        let number = state.numbers[id];
        let instance = state.get(number).unwrap();
        let taken = instance.leased.iter().flat_map(|leased| &leased.taken);
        let messages = instance.queue.iter().chain(instance.delayed.values()).chain(instance.put_off.values());
        let messages = messages.chain(taken);
        messages.map(|message| message.attempts).max().unwrap_or(0)
    }
}
