//! The owner session: the owner of a file together with the lock, and the thread that carries out the requests of
//! clients.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::runtime::Handle;

use crate::error::StoreError;
use crate::operations::AdminOperations as _;
use crate::policy::StorePolicy;
use crate::session_limits::SessionLimits;
use crate::sqlite::file::connection;
use crate::sqlite::file::lock::{LockHandle, LockHolder, OwnerLock};
use crate::sqlite::file::paths::file_error;
use crate::sqlite::inbox::{Body, InboxAnswer, InboxConsumer, InboxReply, Request};
use crate::sqlite::owner::{InboxPosition, Owner, OwnerOptions, PendingChanges};
use crate::types::Durability;

/// The pause before a request that failed for a passing reason is tried again.
const SUBMIT_PAUSE: Duration = Duration::from_millis(100);

/// The file of a store, with all that a process needs to become its owner.
pub struct StoreFile {
    path: PathBuf,
    durability: Durability,
    lock: LockHandle,
    session_limits: Arc<SessionLimits>,
}

impl StoreFile {
    pub fn new(path: &Path, durability: Durability, session_limits: Arc<SessionLimits>) -> Result<Self, StoreError> {
        Ok(Self { path: path.to_owned(), durability, lock: LockHandle::new(path)?, session_limits })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn description(&self) -> String {
        format!("SQLite file '{}'", self.path.display())
    }

    /// The process that owns the file, for a message.
    pub fn holder(&self) -> String {
        match self.lock.holder() {
            Ok(LockHolder::Another(Some(number))) => format!("another process ({number})"),
            _ => "another process".to_owned(),
        }
    }
}

/// The time in which this process is the owner.
pub struct OwnerSession {
    pub owner: Arc<Owner>,
    /// `None` for a store in memory, and after the end of the session.
    service: Mutex<Option<Service>>,
}

/// The thread that carries out the requests of clients, and the lock.
struct Service {
    inbox: Arc<InboxConsumer>,
    thread: JoinHandle<()>,
    /// Released last.
    owner_lock: OwnerLock,
}

impl OwnerSession {
    pub fn in_memory(owner: Arc<Owner>) -> Self {
        Self { owner, service: Mutex::new(None) }
    }

    /// Becomes the owner of a file; `None` if a process owns it already. Blocks, so the caller must use a Tokio thread
    /// that may block.
    pub fn begin(store_file: &StoreFile) -> Result<Option<Self>, StoreError> {
        let Some((owner, inbox, owner_lock)) = take_over(store_file)? else { return Ok(None) };
        let inbox = Arc::new(inbox);
        let (thread_owner, thread_inbox) = (Arc::clone(&owner), Arc::clone(&inbox));
        let handle = Handle::current();
        let thread = std::thread::Builder::new()
            .name("duroxide-inbox".to_owned())
            .spawn(move || serve_inbox(&thread_owner, &thread_inbox, &handle))
            .map_err(|error| StoreError::Unavailable(format!("a thread could not be started: {error}")))?;
        let service = Service { inbox, thread, owner_lock };
        Ok(Some(Self { owner, service: Mutex::new(Some(service)) }))
    }

    /// Becomes the owner, carries out one request, and stops being the owner; `None` if another process is the owner.
    pub fn carry_out_once(store_file: &StoreFile, body: &Body) -> Result<Option<InboxReply>, StoreError> {
        let Some((owner, _inbox, _owner_lock)) = take_over(store_file)? else { return Ok(None) };
        let handle = Handle::current();
        let answer = handle.block_on(carry_out(&owner, body.clone()));
        handle.block_on(owner.close());
        answer.map(Some)
    }

    /// Ends the session when all accepted changes are on the disk, and releases the lock.
    pub async fn end(&self) {
        let service = self.service.lock().take();
        if let Some(service) = &service {
            service.inbox.stop();
        }
        let owner = Arc::clone(&self.owner);
        let ended = tokio::task::spawn_blocking(move || {
            let owner_lock = service.map(|Service { thread, owner_lock, .. }| {
                // A thread that panicked has reported that itself.
                thread.join().ok();
                owner_lock
            });
            Handle::current().block_on(owner.close());
            drop(owner_lock);
        })
        .await;
        if let Err(error) = ended {
            tracing::error!(target: "duroxide::store", "a store could not be closed: {error}");
        }
    }
}

fn take_over(store_file: &StoreFile) -> Result<Option<(Arc<Owner>, InboxConsumer, OwnerLock)>, StoreError> {
    let Some(owner_lock) = store_file.lock.try_acquire()? else { return Ok(None) };
    let connection = connection::open(&store_file.path, store_file.durability)?;
    wait_for_earlier_owner(&connection).map_err(|error| file_error(&store_file.path, &error))?;
    let owner = Owner::open(OwnerOptions {
        description: store_file.description(),
        connection,
        file: Some(store_file.path.clone()),
        lock: Some(owner_lock.place()),
        policy: StorePolicy::SHIPPED,
        session_limits: Arc::clone(&store_file.session_limits),
    })?;
    match carry_out_backlog(&store_file.path, &owner) {
        Ok(inbox) => Ok(Some((owner, inbox, owner_lock))),
        Err(error) => {
            // Otherwise its threads would write to a file that another process may own by then.
            Handle::current().block_on(owner.close());
            Err(error)
        }
    }
}

/// Waits for the running transaction of an owner whose lock file was deleted. Its next transaction finds the new lock.
fn wait_for_earlier_owner(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE; COMMIT")
}

/// Carries out the requests that arrived while no process owned the file. This comes first, since clients have promised
/// their outcomes.
fn carry_out_backlog(path: &Path, owner: &Owner) -> Result<InboxConsumer, StoreError> {
    let inbox = InboxConsumer::new(path, |name| Ok(owner.inbox_position(name)?))?;
    let handle = Handle::current();
    let mut completed = 0;
    while completed < inbox.backlog() {
        let batch = inbox.take()?;
        let Some(last) = batch.last() else { break };
        completed = last.position;
        carry_out_batch(owner, &inbox, batch, &handle);
    }
    Ok(inbox)
}

fn serve_inbox(owner: &Owner, inbox: &InboxConsumer, handle: &Handle) {
    loop {
        match inbox.next_batch() {
            Ok(batch) if batch.is_empty() => return,
            Ok(batch) => carry_out_batch(owner, inbox, batch, handle),
            Err(error) => {
                tracing::error!(target: "duroxide::store", "the requests of other processes cannot be read: {error}");
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

/// Carries out requests in their order. The writer thread gets all starts and messages first, so that one transaction
/// can hold them; then this function waits for them.
fn carry_out_batch(owner: &Owner, inbox: &InboxConsumer, batch: Vec<Request>, handle: &Handle) {
    let mut answers: Vec<(i64, InboxAnswer)> = Vec::with_capacity(batch.len());
    let mut pending: Vec<(i64, PendingChanges, InboxReply)> = Vec::new();
    for Request { inbox: name, position, body } in batch {
        let inbox_position = InboxPosition { inbox: name.to_string(), position };
        if !matches!(body, Body::Start { .. } | Body::Messages { .. }) {
            let outcome = handle.block_on(async {
                let changes = !matches!(body, Body::Describe { .. });
                let outcome = carry_out(owner, body).await;
                if changes {
                    owner.note_position(inbox_position).await?;
                }
                outcome
            });
            answers.push((position, outcome));
            continue;
        }
        let submitted = loop {
            match submit(owner, &body, inbox_position.clone()) {
                // No later request may overtake a promised one.
                Err(StoreError::Failed(error)) if error.is_transient() && !inbox.is_stopped() => {
                    tracing::warn!(
                        target: "duroxide::store",
                        "a request of another process could not be carried out yet: {error}"
                    );
                    std::thread::sleep(SUBMIT_PAUSE);
                }
                submitted => break submitted,
            }
        };
        match submitted {
            Ok((changes, reply)) => pending.push((position, changes, reply)),
            Err(error) => answers.push((position, Err(error))),
        }
    }
    for (position, changes, reply) in pending {
        let outcome = handle.block_on(owner.wait_until_written(changes)).map(|()| reply).map_err(StoreError::from);
        answers.push((position, outcome));
    }
    inbox.reply(answers);
}

/// Hands a start or messages to the owner, without waiting for the disk.
fn submit(
    owner: &Owner,
    body: &Body,
    inbox_position: InboxPosition,
) -> Result<(PendingChanges, InboxReply), StoreError> {
    match body.clone() {
        Body::Start { requests, if_exists } => owner
            .submit_starts(requests, if_exists, Some(inbox_position))
            .map(|(outcomes, pending)| (pending, InboxReply::Started(outcomes))),
        Body::Messages { items, visible_ms } => {
            Ok((owner.submit_messages(items, visible_ms, Some(inbox_position))?, InboxReply::Delivered))
        }
        _ => Err(StoreError::Configuration("only starts and messages can be submitted".to_owned())),
    }
}

async fn carry_out(owner: &Owner, body: Body) -> InboxAnswer {
    Ok(match body {
        Body::Start { requests, if_exists } => InboxReply::Started(owner.start(requests, if_exists).await?),
        Body::Messages { items, .. } => {
            owner.send(items).await?;
            InboxReply::Delivered
        }
        Body::Delete { ids, force } => InboxReply::Deleted(owner.delete_instances_atomic(&ids, force).await?),
        Body::DeleteBulk(filter) => InboxReply::Deleted(owner.delete_instance_bulk(filter).await?),
        Body::Prune { id, options } => InboxReply::Pruned(owner.prune_executions(&id, options).await?),
        Body::Terminate(request) => InboxReply::Terminated(owner.terminate(&request).await?),
        Body::Describe { id } => InboxReply::Described(Box::new(owner.live_state(&id))),
        Body::PruneBulk { filter, options } => InboxReply::Pruned(owner.prune_executions_bulk(filter, options).await?),
    })
}
