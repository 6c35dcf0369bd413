//! An open store, on a file or in memory. It passes each operation to its current role: owner or client.

#[cfg(test)]
pub mod tests;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use duroxide::providers::WorkItem;
use parking_lot::RwLock;
use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::code_time::CodeTime;
use crate::error::{Result, StoreError, task_failed, unblocked};
use crate::events::StoreEvents;
use crate::failure::{Failure, FailureKind};
use crate::listing::{InstanceCount, InstanceQuery, InstanceSummary, PageRequest};
use crate::live::LiveState;
use crate::outbox::{Relay, Relayed};
use crate::policy::StorePolicy;
use crate::session_limits::SessionLimits;
use crate::sqlite::client::ClientStore;
use crate::sqlite::client::commit_watcher::CommitWatch;
use crate::sqlite::client::provider::ClientProvider;
use crate::sqlite::file::companion;
use crate::sqlite::file::connection;
use crate::sqlite::file::paths::locate;
use crate::sqlite::file::schema;
use crate::sqlite::owner::{Owner, OwnerOptions};
use crate::sqlite::owner_session::{OwnerSession, StoreFile};
use crate::sqlite::read;
use crate::start::{IfExists, StartOutcome, StartRequest, WaitingStart};
use crate::termination::Termination;
use crate::types::{Durability, InstanceState};

/// How often a standby tries to become the owner.
const STANDBY_INTERVAL: Duration = Duration::from_millis(100);

pub struct SqliteStore {
    pub session_limits: Arc<SessionLimits>,
    /// `None` for a store in memory.
    store_file: RwLock<Option<Arc<StoreFile>>>,
    /// `None` once the store is closed.
    role: RwLock<Option<Role>>,
    role_changes: watch::Sender<u64>,
    /// Gets a report of each deletion, and reports what this process can run.
    events: OnceLock<Arc<dyn StoreEvents>>,
    dispatching: Mutex<Dispatching>,
}

/// The role of this process for the file.
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

/// A task that waits until the owner ends, and then takes over.
struct Standby {
    /// Dropping this ends the task, but not during a takeover: otherwise the new owner session would have no end.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Dispatching {
    /// Ends the standby task. This process may have become the owner at the last moment.
    async fn end_standby(&mut self) {
        if let Some(Standby { stop, task }) = self.standby.take() {
            drop(stop);
            task.await.ok();
        }
    }
}

impl SqliteStore {
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        companion::check_sqlite_files(path)?;
        // No file is created beside a file that is not a store.
        if let Err(error @ StoreError::Configuration(_)) = schema::is_current(path) {
            return Err(error);
        }
        let session_limits = Arc::new(SessionLimits::default());
        let store_file = Arc::new(StoreFile::new(path, durability, Arc::clone(&session_limits))?);
        let role = Role::Client(client(&store_file)?);
        Ok(Self::with(Some(store_file), role, session_limits))
    }

    pub fn in_memory() -> Result<Self, StoreError> {
        let session_limits = Arc::new(SessionLimits::default());
        let owner = Owner::open(OwnerOptions {
            description: "store in memory".to_owned(),
            connection: connection::in_memory()?,
            file: None,
            lock: None,
            policy: StorePolicy::SHIPPED,
            session_limits: Arc::clone(&session_limits),
        })?;
        Ok(Self::with(None, Role::Owner(Arc::new(OwnerSession::in_memory(owner))), session_limits))
    }

    fn with(store_file: Option<Arc<StoreFile>>, role: Role, session_limits: Arc<SessionLimits>) -> Self {
        Self {
            session_limits,
            store_file: RwLock::new(store_file),
            role: RwLock::new(Some(role)),
            role_changes: watch::Sender::new(0),
            events: OnceLock::new(),
            dispatching: Mutex::default(),
        }
    }

    pub fn role(&self) -> Result<Role> {
        self.role.read().clone().ok_or_else(|| Failure::closed("store"))
    }

    /// A receiver for the changes of the role after this call.
    pub fn next_role(&self) -> watch::Receiver<u64> {
        self.role_changes.subscribe()
    }

    /// Reports each deletion to `events`, also those that other processes request.
    pub fn report_deletions(&self, events: Arc<dyn StoreEvents>) {
        if self.events.set(events).is_ok()
            && let Some(session) = self.owner_session()
        {
            self.report_events_of(&session);
        }
    }

    fn report_events_of(&self, session: &OwnerSession) {
        if let Some(events) = self.events.get().cloned() {
            session.owner.report_to(events);
        }
    }

    /// The canonical path of the file; `None` for a store in memory.
    pub fn file(&self) -> Result<Option<PathBuf>, StoreError> {
        self.store_file().map(|store_file| locate(store_file.path())).transpose()
    }

    fn store_file(&self) -> Option<Arc<StoreFile>> {
        self.store_file.read().clone()
    }

    fn set_role(&self, role: Option<Role>) -> Option<Role> {
        let previous = std::mem::replace(&mut *self.role.write(), role);
        self.role_changes.send_modify(|changes| *changes += 1);
        previous
    }

    /// Whether an operation failed because the owner session ended, although the store itself is open.
    pub fn has_changed_its_role(&self, failure: &Failure) -> bool {
        failure.kind == FailureKind::Closed && self.role.read().is_some()
    }

    fn owner_session(&self) -> Option<Arc<OwnerSession>> {
        match self.role() {
            Ok(Role::Owner(session)) => Some(session),
            _ => None,
        }
    }

    /// Called when a runtime starts: this process becomes the owner, or a standby while another process is the owner.
    pub async fn begin_dispatching(self: &Arc<Self>) -> Result<(), StoreError> {
        let Some(store_file) = self.store_file() else { return Ok(()) };
        let mut dispatching = self.dispatching.lock().await;
        let store = Arc::clone(self);
        // A separate task finishes the takeover even if the caller is dropped. `close` then ends the owner session.
        let takeover = async move { store.take_over().await };
        if dispatching.runtimes == 0 && !tokio::spawn(takeover).await.map_err(task_failed)?? {
            tracing::warn!(
                target: "duroxide::store",
                // Without logging, too, a person must see why new code does not run.
                notice = true,
                "{} works on {}, with the code that it has loaded; this runtime is a standby, and takes over when that \
                 process ends",
                store_file.holder(),
                store_file.description()
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
        let mut pause = STANDBY_INTERVAL;
        while timeout(pause, &mut stopped).await.is_err() {
            pause = STANDBY_INTERVAL;
            match self.take_over().await {
                Ok(true) => {
                    tracing::info!(target: "duroxide::store", "this runtime has taken over");
                    return;
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(target: "duroxide::store", "this runtime cannot take over: {error}");
                    pause = STANDBY_INTERVAL * 10;
                }
            }
        }
    }

    /// Becomes the owner. Returns false if another process is the owner.
    async fn take_over(&self) -> Result<bool, StoreError> {
        let Some(store_file) = self.store_file() else { return Ok(true) };
        // A closed store must not become the owner, since no later call would end the session.
        self.role()?;
        let Some(session) = unblocked(move || OwnerSession::begin(&store_file)).await? else { return Ok(false) };
        self.report_events_of(&session);
        self.set_role(Some(Role::Owner(Arc::new(session))));
        Ok(true)
    }

    /// Called when a runtime has ended. After the last one, this process stops being the owner.
    pub async fn end_dispatching(&self) {
        let Some(store_file) = self.store_file() else { return };
        let mut dispatching = self.dispatching.lock().await;
        dispatching.runtimes = dispatching.runtimes.saturating_sub(1);
        if dispatching.runtimes > 0 {
            return;
        }
        dispatching.end_standby().await;
        let Some(session) = self.owner_session() else { return };
        // A client of a file that is gone would wait for another process to create it.
        if session.owner.has_its_file() {
            match client(&store_file) {
                Ok(client) => _ = self.set_role(Some(Role::Client(client))),
                Err(error) => {
                    tracing::error!(target: "duroxide::store", "{}: {error}", store_file.description());
                    self.set_role(None);
                }
            }
        } else {
            self.set_role(None);
        }
        session.end().await;
    }

    pub async fn close(&self) {
        let mut dispatching = self.dispatching.lock().await;
        dispatching.end_standby().await;
        match self.set_role(None) {
            Some(Role::Owner(session)) => session.end().await,
            Some(Role::Client(client)) => client.0.readers().close(),
            None => {}
        }
        self.store_file.write().take();
    }

    /// Starts instances, all of them or none.
    pub async fn start(
        &self,
        requests: Vec<StartRequest>,
        if_exists: IfExists,
    ) -> Result<Vec<StartOutcome>, StoreError> {
        loop {
            match self.role()? {
                Role::Owner(session) => match session.owner.start(requests.clone(), if_exists).await {
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
                Role::Owner(session) => match session.owner.send(messages.clone()).await {
                    Err(error) if self.has_changed_its_role(&error) => {}
                    outcome => return Ok(outcome?),
                },
                Role::Client(client) => return unblocked(move || client.0.send(messages, 0)).await,
            }
        }
    }

    /// The key of the last relayed row of an outbox. `None` without one, and on a client, which does not relay.
    pub fn relayed(&self, outbox: &str) -> Result<Option<i64>, StoreError> {
        match self.role()? {
            Role::Owner(session) => session.owner.relayed(outbox),
            Role::Client(_) => Ok(None),
        }
    }

    /// Takes rows of an outbox over, if this process is the owner.
    pub async fn relay(&self, relay: Relay) -> Result<Relayed, StoreError> {
        match self.role()? {
            Role::Owner(session) => match session.owner.relay(relay).await {
                Err(StoreError::Closed) if self.role().is_ok() => Ok(Relayed::Elsewhere),
                outcome => outcome,
            },
            Role::Client(_) => Ok(Relayed::Elsewhere),
        }
    }

    /// Which of these instances have ended.
    pub fn ended(&self, instances: &[String]) -> Result<HashSet<String>> {
        match self.role()? {
            Role::Owner(session) => match session.owner.ended(instances) {
                Err(error) if self.has_changed_its_role(&error) => self.ended(instances),
                outcome => outcome,
            },
            Role::Client(client) => client.ended(instances),
        }
    }

    pub async fn instance_state(&self, instance: &str) -> Result<Option<InstanceState>> {
        match self.role()? {
            Role::Owner(session) => match session.owner.instance_state(instance) {
                Err(error) if self.has_changed_its_role(&error) => Box::pin(self.instance_state(instance)).await,
                outcome => outcome,
            },
            Role::Client(client) => match client.instance_state(instance)? {
                None => {
                    let instance = instance.to_owned();
                    client.write("get_instance_info", move |store| store.requested_state(&instance)).await
                }
                found => Ok(found),
            },
        }
    }

    /// The orchestration that an instance runs, or that a waiting start will run.
    pub async fn running(&self, instance: &str) -> Result<Option<String>, StoreError> {
        match self.role()? {
            Role::Owner(session) => match session.owner.running(instance) {
                Err(error) if self.has_changed_its_role(&error) => Box::pin(self.running(instance)).await,
                outcome => Ok(outcome?),
            },
            Role::Client(client) => {
                let instance = instance.to_owned();
                unblocked(move || client.0.running_or_requested(&instance)).await
            }
        }
    }

    /// The start of an instance that no turn has read yet.
    pub async fn waiting_start(&self, instance: &str) -> Result<Option<WaitingStart>> {
        let instance = instance.to_owned();
        self.look(
            {
                let instance = instance.clone();
                move |owner| owner.waiting_start(&instance)
            },
            move |client| client.waiting_start(&instance),
        )
        .await
    }

    /// The summaries of a page; one more than its limit if there is another page.
    pub async fn page(&self, request: PageRequest) -> Result<Vec<InstanceSummary>, StoreError> {
        let role = self.role()?;
        // A condition that no index answers reads the whole table.
        unblocked(move || match role {
            Role::Owner(session) => Ok(session.owner.page(&request)?),
            Role::Client(client) => client.0.page(&request),
        })
        .await
    }

    /// How many instances of each name have each status.
    pub async fn counts(&self, query: InstanceQuery) -> Result<Vec<InstanceCount>, StoreError> {
        let role = self.role()?;
        unblocked(move || match role {
            Role::Owner(session) => Ok(session.owner.counts(&query)?),
            Role::Client(client) => client.0.counts(&query),
        })
        .await
    }

    /// The ids of the instances whose starts no turn has read yet.
    pub async fn waiting_starts(&self) -> Result<Vec<String>> {
        self.look(Owner::waiting_starts, ClientStore::waiting_starts).await
    }

    /// How many instances have starts that no turn has read yet.
    pub async fn count_waiting_starts(&self) -> Result<u64> {
        self.look(Owner::count_waiting_starts, ClientStore::count_waiting_starts).await
    }

    /// The sub-orchestrations of `parents` whose starts no turn has read yet.
    pub async fn waiting_children(&self, parents: &[String]) -> Result<Vec<String>> {
        let (of_owner, of_client) = (parents.to_vec(), parents.to_vec());
        self.look(move |owner| owner.waiting_children(&of_owner), move |client| client.waiting_children(&of_client))
            .await
    }

    /// The ids of the instances that wait for code that fits their history.
    pub async fn mismatched(&self) -> Result<Vec<String>> {
        self.look(Owner::mismatched, |client| Ok(client.readers().read("get_system_metrics", read::mismatched)?)).await
    }

    /// Terminates an instance and, if asked, all below it. Returns the instances that this call has ended.
    pub async fn terminate(&self, request: &Termination) -> Result<Vec<String>, StoreError> {
        loop {
            match self.role()? {
                Role::Owner(session) => match session.owner.terminate(request).await {
                    Err(failure) if self.has_changed_its_role(&failure) => {}
                    outcome => return Ok(outcome?),
                },
                Role::Client(client) => {
                    let request = request.clone();
                    return unblocked(move || client.0.terminate(&request)).await;
                }
            }
        }
    }

    /// What is under way for an instance. A client asks the owner; without an owner, it reads the file.
    pub async fn live_state(&self, instance: &str) -> Result<LiveState> {
        let instance = instance.to_owned();
        match self.role()? {
            Role::Owner(session) => Ok(session.owner.live_state(&instance)),
            Role::Client(client) => client.write("get_instance_info", move |store| store.live_state(&instance)).await,
        }
    }

    /// Reads in the role of this process. A client reads the inbox too, so it may wait for another process.
    async fn look<T: Send + 'static>(
        &self,
        of_owner: impl FnOnce(&Owner) -> Result<T>,
        of_client: impl FnOnce(&ClientStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T> {
        match self.role()? {
            Role::Owner(session) => of_owner(&session.owner),
            Role::Client(client) => client.write("get_instance_info", of_client).await,
        }
    }

    /// The mismatch report of an instance that waits for code that can run it.
    pub fn mismatch(&self, instance: &str) -> Result<Option<String>> {
        match self.role()? {
            Role::Owner(session) => session.owner.mismatch(instance),
            Role::Client(client) => client.mismatch(instance),
        }
    }

    /// Takes back that deliveries count, whose leases stay.
    pub async fn uncount(&self, turns: &[String], activities: &[String]) -> Result<()> {
        match self.owner_session() {
            Some(session) => session.owner.uncount(turns, activities).await,
            None => Ok(()),
        }
    }

    /// Makes all work due that a runtime has put off.
    pub fn end_pauses(&self) {
        if let Some(session) = self.owner_session() {
            session.owner.end_pauses();
        }
    }

    /// Records the mismatch report of an instance. The next recorded turn removes it.
    pub fn note_mismatch(&self, instance: &str, report: &str) {
        if let Some(session) = self.owner_session() {
            session.owner.note_mismatch(instance, report);
        }
    }

    /// From now on, the lease of this turn counts from the end of its code.
    pub fn extend_lease_while_running(&self, token: &str, code_time: &Arc<CodeTime>) {
        if let Some(session) = self.owner_session() {
            session.owner.extend_lease_while_running(token, code_time);
        }
    }

    /// A watch for the next commit of another process. `None` on the owner, since no other process commits.
    pub fn change(&self) -> Option<CommitWatch> {
        match self.role() {
            Ok(Role::Client(client)) => Some(client.0.commits().watch()),
            _ => None,
        }
    }

    /// Copies the state of the store at one moment into a new file.
    pub async fn back_up(&self, target: PathBuf) -> Result<(), StoreError> {
        let role = self.role()?;
        unblocked(move || match role {
            Role::Owner(session) => Ok(session.owner.back_up(&target)?),
            Role::Client(client) => {
                client.0.catch_up()?;
                Ok(client.back_up(&target)?)
            }
        })
        .await
    }
}

/// Makes this process a client of the file. The client becomes the owner for a moment if a request needs an owner and
/// there is none.
fn client(store_file: &Arc<StoreFile>) -> Result<Arc<ClientProvider>, StoreError> {
    let own_file = Arc::clone(store_file);
    let temporary_owner = Box::new(move |body: &_| OwnerSession::carry_out_once(&own_file, body));
    let store = ClientStore::open(store_file.path(), temporary_owner)?;
    Ok(Arc::new(ClientProvider(Arc::new(store))))
}
