//! Working on a file: the owner, the right to be it, and the requests of other processes that it carries out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use duroxide::providers::ProviderAdmin as _;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::error::StoreError;
use crate::policy::StorePolicy;
use crate::sqlite::file::connection;
use crate::sqlite::file::lock::{LockHandle, LockHolder, OwnerLock};
use crate::sqlite::inbox::{Answer, Body, InboxConsumer, Reply, Request};
use crate::sqlite::owner::{Accepted, InboxPosition, Owner, OwnerOptions};
use crate::types::Durability;

/// Before a request that could not be read up is tried again.
const SUBMIT_PAUSE: Duration = Duration::from_millis(100);

/// A file that somebody may work on.
pub struct StoreFile {
    path: PathBuf,
    durability: Durability,
    candidate: LockHandle,
}

impl StoreFile {
    pub fn new(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        Ok(Self { path: path.to_owned(), durability, candidate: LockHandle::new(path)? })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn description(&self) -> String {
        format!("SQLite file '{}'", self.path.display())
    }

    /// Who works on it, for a message.
    pub fn holder(&self) -> String {
        match self.candidate.holder() {
            Ok(LockHolder::Another(Some(number))) => format!("another process ({number})"),
            _ => "another process".to_owned(),
        }
    }
}

pub struct OwnerSession {
    pub owner: Arc<Owner>,
    service: Mutex<Option<Service>>,
}

/// What the owner of a file does for other processes.
struct Service {
    inbox: Arc<InboxConsumer>,
    thread: JoinHandle<()>,
    /// Given up last.
    ownership: OwnerLock,
}

impl OwnerSession {
    pub fn in_memory(owner: Arc<Owner>) -> Self {
        Self { owner, service: Mutex::new(None) }
    }

    /// Becomes the owner of a file, unless somebody is. Blocks, and must be called on a thread of Tokio that may.
    pub fn begin(workplace: &StoreFile) -> Result<Option<Self>, StoreError> {
        let Some((owner, inbox, ownership)) = take_over(workplace)? else { return Ok(None) };
        let inbox = Arc::new(inbox);
        let (served, reader) = (Arc::clone(&owner), Arc::clone(&inbox));
        let handle = Handle::current();
        let thread = std::thread::Builder::new()
            .name("duroxide-inbox".to_owned())
            .spawn(move || serve(&served, &reader, &handle))
            .map_err(|error| StoreError::Unavailable(format!("no thread can be started: {error}")))?;
        let service = Service { inbox, thread, ownership };
        Ok(Some(Self { owner, service: Mutex::new(Some(service)) }))
    }

    /// Does one thing as the owner, and is it no longer; `None` when somebody else is.
    pub fn stand_in(workplace: &StoreFile, body: &Body) -> Result<Option<Reply>, StoreError> {
        let Some((owner, _inbox, _ownership)) = take_over(workplace)? else { return Ok(None) };
        let handle = Handle::current();
        let answer = handle.block_on(carry_out(&owner, body.clone()));
        handle.block_on(owner.close());
        answer.map(Some)
    }

    /// Gives the file up, with all that was promised on the disk.
    pub async fn end(&self) {
        let service = self.service.lock().take();
        if let Some(service) = &service {
            service.inbox.stop();
        }
        let owner = Arc::clone(&self.owner);
        let ended = tokio::task::spawn_blocking(move || {
            let ownership = service.map(|Service { thread, ownership, .. }| {
                // One that panicked has said so.
                thread.join().ok();
                ownership
            });
            Handle::current().block_on(owner.close());
            drop(ownership);
        })
        .await;
        if let Err(error) = ended {
            tracing::error!(target: "duroxide::store", "a store was not closed: {error}");
        }
    }
}

fn take_over(workplace: &StoreFile) -> Result<Option<(Arc<Owner>, InboxConsumer, OwnerLock)>, StoreError> {
    let Some(ownership) = workplace.candidate.try_acquire()? else { return Ok(None) };
    let connection = connection::open(&workplace.path, workplace.durability)?;
    let owner = Owner::open(OwnerOptions {
        description: workplace.description(),
        connection,
        file: Some(workplace.path.clone()),
        policy: StorePolicy::SHIPPED,
    })?;
    match keep_promises(&workplace.path, &owner) {
        Ok(inbox) => Ok(Some((owner, inbox, ownership))),
        Err(error) => {
            // Its threads would go on writing to a file that is somebody else's by then.
            Handle::current().block_on(owner.close());
            Err(error)
        }
    }
}

/// Carries out what was promised while nobody worked on the file, which comes before all else.
fn keep_promises(path: &Path, owner: &Owner) -> Result<InboxConsumer, StoreError> {
    let inbox = InboxConsumer::new(path, |name| Ok(owner.inbox_position(name)?))?;
    let handle = Handle::current();
    let mut done = 0;
    while done < inbox.backlog() {
        let backlog = inbox.take()?;
        let Some(last) = backlog.last() else { break };
        done = last.position;
        answer(owner, &inbox, backlog, &handle);
    }
    Ok(inbox)
}

fn serve(owner: &Owner, inbox: &InboxConsumer, handle: &Handle) {
    loop {
        match inbox.next_batch() {
            Ok(batch) if batch.is_empty() => return,
            Ok(batch) => answer(owner, inbox, batch, handle),
            Err(error) => {
                tracing::error!(target: "duroxide::store", "requests of other processes cannot be read: {error}");
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

/// Carries out requests in their order. Starts and messages are written together; nobody waits for them one by one.
fn answer(owner: &Owner, inbox: &InboxConsumer, batch: Vec<Request>, handle: &Handle) {
    let mut answers: Vec<(i64, Answer)> = Vec::with_capacity(batch.len());
    let mut accepted: Vec<(i64, Accepted, Reply)> = Vec::new();
    for Request { inbox: name, position, body } in batch {
        let place = InboxPosition { inbox: name.to_string(), position };
        if !matches!(body, Body::Start { .. } | Body::Messages { .. }) {
            let outcome = handle.block_on(async {
                let outcome = carry_out(owner, body).await;
                owner.note_position(place).await?;
                outcome
            });
            answers.push((position, outcome));
            continue;
        }
        let submitted = loop {
            match submit(owner, &body, place.clone()) {
                // What was promised must not be passed over by what comes after it.
                Err(StoreError::Provider(error)) if error.retryable && !inbox.is_stopped() => {
                    tracing::warn!(target: "duroxide::store", "a request of another process waits: {error}");
                    std::thread::sleep(SUBMIT_PAUSE);
                }
                submitted => break submitted,
            }
        };
        match submitted {
            Ok((written, reply)) => accepted.push((position, written, reply)),
            Err(error) => answers.push((position, Err(error))),
        }
    }
    for (position, written, reply) in accepted {
        let outcome = handle.block_on(owner.settled(written)).map(|()| reply).map_err(StoreError::from);
        answers.push((position, outcome));
    }
    inbox.reply(answers);
}

/// Takes a start or messages in, without waiting for the disk.
fn submit(owner: &Owner, body: &Body, place: InboxPosition) -> Result<(Accepted, Reply), StoreError> {
    match body.clone() {
        Body::Start { requests, if_exists } => owner
            .submit_starts(requests, if_exists, Some(place))
            .map(|(outcomes, accepted)| (accepted, Reply::Started(outcomes))),
        Body::Messages { items, visible_ms } => {
            Ok((owner.submit_messages(items, visible_ms, Some(place))?, Reply::Delivered))
        }
        _ => Err(StoreError::Configuration("only starts and messages are taken in like this".to_owned())),
    }
}

async fn carry_out(owner: &Owner, body: Body) -> Answer {
    Ok(match body {
        Body::Start { requests, if_exists } => Reply::Started(owner.start(requests, if_exists).await?),
        Body::Messages { items, .. } => {
            owner.send(items).await?;
            Reply::Delivered
        }
        Body::Delete { ids, force } => Reply::Deleted(owner.delete_instances_atomic(&ids, force).await?),
        Body::DeleteBulk(filter) => Reply::Deleted(owner.delete_instance_bulk(filter).await?),
        Body::Prune { id, options } => Reply::Pruned(owner.prune_executions(&id, options).await?),
        Body::PruneBulk { filter, options } => Reply::Pruned(owner.prune_executions_bulk(filter, options).await?),
    })
}
