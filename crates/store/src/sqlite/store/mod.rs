//! One opened file, or one store in memory, as the rest of the process uses it.

#[cfg(test)]
pub mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use duroxide::providers::{ProviderError, WorkItem};
use parking_lot::RwLock;
use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::code_time::CodeTime;
use crate::error::Result;
use crate::error::{CLOSED, StoreError};
use crate::error::{task_failed, unblocked};
use crate::events::StoreEvents;
use crate::outbox::{Relay, Relayed};
use crate::policy::StorePolicy;
use crate::sqlite::client::{ClientProvider, ClientStore, CommitWatch};
use crate::sqlite::file::connection;
use crate::sqlite::file::paths::locate;
use crate::sqlite::file::schema;
use crate::sqlite::owner::{Owner, OwnerOptions};
use crate::sqlite::owner_session::{OwnerSession, StoreFile};
use crate::start::{IfExists, StartOutcome, StartRequest};
use crate::types::{Durability, InstanceState};

/// How often a standby asks whether the owner is gone.
const STANDBY_LOOK: Duration = Duration::from_millis(50);

pub struct SqliteStore {
    /// `None` for a store in memory.
    workplace: RwLock<Option<Arc<StoreFile>>>,
    role: RwLock<Option<Role>>,
    roles: watch::Sender<u64>,
    /// Receives the deletions.
    events: OnceLock<Arc<dyn StoreEvents>>,
    dispatching: Mutex<Dispatching>,
}

/// What this process is for the file.
#[derive(Clone)]
pub enum Role {
    Owner(Arc<OwnerSession>),
    Client(Arc<ClientProvider>),
}

#[derive(Default)]
struct Dispatching {
    runtimes: usize,
    standby: Option<Standby>,
}

/// Waits for the owner to go.
struct Standby {
    /// It ends when this is dropped, but never while it takes over: nobody could end what it has begun then.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Dispatching {
    /// Ends standing by. This process may have become the owner at the last moment.
    async fn end_standby(&mut self) {
        if let Some(Standby { stop, task }) = self.standby.take() {
            drop(stop);
            task.await.ok();
        }
    }
}

impl SqliteStore {
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        // Nothing is made beside a file that is no store.
        if let Err(error @ StoreError::Configuration(_)) = schema::is_current(path) {
            return Err(error);
        }
        let workplace = Arc::new(StoreFile::new(path, durability)?);
        let role = Role::Client(client(&workplace)?);
        Ok(Self::with(Some(workplace), role))
    }

    pub fn in_memory() -> Result<Self, StoreError> {
        let owner = Owner::open(OwnerOptions {
            description: "store in memory".to_owned(),
            connection: connection::in_memory()?,
            file: None,
            policy: StorePolicy::SHIPPED,
        })?;
        Ok(Self::with(None, Role::Owner(Arc::new(OwnerSession::in_memory(owner)))))
    }

    fn with(workplace: Option<Arc<StoreFile>>, role: Role) -> Self {
        Self {
            workplace: RwLock::new(workplace),
            role: RwLock::new(Some(role)),
            roles: watch::Sender::new(0),
            events: OnceLock::new(),
            dispatching: Mutex::default(),
        }
    }

    pub fn role(&self) -> Result<Role> {
        self.role.read().clone().ok_or_else(|| ProviderError::permanent("store", CLOSED))
    }

    /// The next change of the role after this call.
    pub fn next_role(&self) -> watch::Receiver<u64> {
        self.roles.subscribe()
    }

    /// Reports every deletion to `events`, by whichever process it is made.
    pub fn report_deletions(&self, events: Arc<dyn StoreEvents>) {
        if self.events.set(events).is_ok()
            && let Some(work) = self.owner()
        {
            self.listen(&work);
        }
    }

    fn listen(&self, work: &OwnerSession) {
        if let Some(events) = self.events.get().cloned() {
            work.owner.on_deletion(move |id| events.deleted(id));
        }
    }

    /// The canonical path of the file; `None` for a store in memory.
    pub fn file(&self) -> Result<Option<PathBuf>, StoreError> {
        self.workplace().map(|workplace| locate(workplace.path())).transpose()
    }

    fn workplace(&self) -> Option<Arc<StoreFile>> {
        self.workplace.read().clone()
    }

    fn set_role(&self, role: Option<Role>) -> Option<Role> {
        let before = std::mem::replace(&mut *self.role.write(), role);
        self.roles.send_modify(|changes| *changes += 1);
        before
    }

    /// Whether an operation failed because the owner was closed, while the store itself is open.
    pub fn has_changed_its_role(&self, error: &ProviderError) -> bool {
        error.message == CLOSED && self.role.read().is_some()
    }

    fn owner(&self) -> Option<Arc<OwnerSession>> {
        match self.role() {
            Ok(Role::Owner(work)) => Some(work),
            _ => None,
        }
    }

    /// A runtime begins to work on the file, or to stand by until nobody else does.
    pub async fn begin_dispatching(self: &Arc<Self>) -> Result<(), StoreError> {
        let Some(workplace) = self.workplace() else { return Ok(()) };
        let mut dispatching = self.dispatching.lock().await;
        let store = Arc::clone(self);
        // Whoever gives up waiting leaves an owner that `close` ends, and not half of one.
        let taking_over = async move { store.take_over().await };
        if dispatching.runtimes == 0 && !tokio::spawn(taking_over).await.map_err(task_failed)?? {
            tracing::warn!(
                target: "duroxide::store",
                "{} works on {}; this runtime is a standby, and takes over when that one ends",
                workplace.holder(),
                workplace.description()
            );
            let store = Arc::clone(self);
            let (stop, stopped) = oneshot::channel();
            let task = tokio::spawn(async move { store.stand_by(stopped).await });
            dispatching.standby = Some(Standby { stop, task });
        }
        dispatching.runtimes += 1;
        Ok(())
    }

    async fn stand_by(&self, mut stopped: oneshot::Receiver<()>) {
        let mut pause = STANDBY_LOOK;
        while timeout(pause, &mut stopped).await.is_err() {
            pause = STANDBY_LOOK;
            match self.take_over().await {
                Ok(true) => {
                    tracing::info!(target: "duroxide::store", "this runtime has taken over");
                    return;
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(target: "duroxide::store", "this runtime cannot take over: {error}");
                    pause = STANDBY_LOOK * 20;
                }
            }
        }
    }

    /// Becomes the owner, unless another process is.
    async fn take_over(&self) -> Result<bool, StoreError> {
        let Some(workplace) = self.workplace() else { return Ok(true) };
        // Nobody would end what is begun on a closed store.
        self.role()?;
        let Some(work) = unblocked(move || OwnerSession::begin(&workplace)).await? else { return Ok(false) };
        self.listen(&work);
        self.set_role(Some(Role::Owner(Arc::new(work))));
        Ok(true)
    }

    /// A runtime has ended; with the last one other processes may work on the file.
    pub async fn end_dispatching(&self) {
        let Some(workplace) = self.workplace() else { return };
        let mut dispatching = self.dispatching.lock().await;
        dispatching.runtimes = dispatching.runtimes.saturating_sub(1);
        if dispatching.runtimes > 0 {
            return;
        }
        dispatching.end_standby().await;
        let Some(work) = self.owner() else { return };
        match client(&workplace) {
            Ok(client) => _ = self.set_role(Some(Role::Client(client))),
            Err(error) => {
                tracing::error!(target: "duroxide::store", "{}: {error}", workplace.description());
                self.set_role(None);
            }
        }
        work.end().await;
    }

    pub async fn close(&self) {
        let mut dispatching = self.dispatching.lock().await;
        dispatching.end_standby().await;
        match self.set_role(None) {
            Some(Role::Owner(work)) => work.end().await,
            Some(Role::Client(client)) => client.0.readers().close(),
            None => {}
        }
        self.workplace.write().take();
    }

    /// Starts instances, all of them or none.
    pub async fn start(
        &self,
        requests: Vec<StartRequest>,
        if_exists: IfExists,
    ) -> Result<Vec<StartOutcome>, StoreError> {
        loop {
            match self.role()? {
                Role::Owner(work) => match work.owner.start(requests.clone(), if_exists).await {
                    Err(StoreError::Closed) if self.role().is_ok() => {}
                    outcome => return outcome,
                },
                Role::Client(client) => {
                    return unblocked(move || client.0.start(&requests, if_exists)).await;
                }
            }
        }
    }

    /// Sends messages, all of them or none.
    pub async fn send(&self, messages: Vec<WorkItem>) -> Result<(), StoreError> {
        loop {
            match self.role()? {
                Role::Owner(work) => match work.owner.send(messages.clone()).await {
                    Err(error) if self.has_changed_its_role(&error) => {}
                    outcome => return Ok(outcome?),
                },
                Role::Client(client) => return unblocked(move || client.0.send(messages, 0)).await,
            }
        }
    }

    /// The key that is recorded for an outbox; for whoever works on the file.
    pub fn relayed(&self, outbox: &str) -> Result<Option<i64>, StoreError> {
        match self.role()? {
            Role::Owner(work) => work.owner.relayed(outbox),
            Role::Client(_) => Ok(None),
        }
    }

    /// Takes rows of an outbox over, where this process works on the file.
    pub async fn relay(&self, relay: Relay) -> Result<Relayed, StoreError> {
        match self.role()? {
            Role::Owner(work) => match work.owner.relay(relay).await {
                Err(StoreError::Closed) if self.role().is_ok() => Ok(Relayed::Elsewhere),
                outcome => outcome,
            },
            Role::Client(_) => Ok(Relayed::Elsewhere),
        }
    }

    pub fn standing(&self, instance: &str) -> Result<Option<InstanceState>> {
        match self.role()? {
            Role::Owner(work) => match work.owner.standing(instance) {
                Err(error) if self.has_changed_its_role(&error) => self.standing(instance),
                outcome => outcome,
            },
            Role::Client(client) => client.standing(instance),
        }
    }

    /// The orchestration that an instance runs, or that a waiting start will run.
    pub async fn running(&self, instance: &str) -> Result<Option<String>, StoreError> {
        match self.role()? {
            Role::Owner(work) => match work.owner.running(instance) {
                Err(error) if self.has_changed_its_role(&error) => Box::pin(self.running(instance)).await,
                outcome => Ok(outcome?),
            },
            Role::Client(client) => {
                let instance = instance.to_owned();
                unblocked(move || client.0.expected(&instance)).await
            }
        }
    }

    /// Why an instance waits for code that can run it, if it does.
    pub fn mismatch(&self, instance: &str) -> Result<Option<String>> {
        match self.role()? {
            Role::Owner(work) => work.owner.mismatch(instance),
            Role::Client(client) => client.mismatch(instance),
        }
    }

    /// Records why an instance waits, until its next turn is recorded.
    pub fn note_mismatch(&self, instance: &str, report: &str) {
        if let Some(work) = self.owner() {
            work.owner.note_mismatch(instance, report);
        }
    }

    /// The lease of this turn counts from the end of its code.
    pub fn lasts_with_code(&self, token: &str, code_time: &Arc<CodeTime>) {
        if let Some(work) = self.owner() {
            work.owner.lasts_with_code(token, code_time);
        }
    }

    /// The next commit of another process, where another process may commit.
    pub fn change(&self) -> Option<CommitWatch> {
        match self.role() {
            Ok(Role::Client(client)) => Some(client.0.changes().watch()),
            _ => None,
        }
    }

    /// Copies the store into a new file, as it is at one moment.
    pub async fn back_up(&self, target: PathBuf) -> Result<(), StoreError> {
        let role = self.role()?;
        unblocked(move || match role {
            Role::Owner(work) => Ok(work.owner.back_up(&target)?),
            Role::Client(client) => {
                client.0.catch_up()?;
                Ok(client.back_up(&target)?)
            }
        })
        .await
    }
}

/// This process as a client of the file, which becomes the owner for a moment where only an owner can do what is asked.
fn client(workplace: &Arc<StoreFile>) -> Result<Arc<ClientProvider>, StoreError> {
    let stand_in = Arc::clone(workplace);
    let store = ClientStore::open(workplace.path(), Box::new(move |body| OwnerSession::stand_in(&stand_in, body)))?;
    Ok(Arc::new(ClientProvider(Arc::new(store))))
}
