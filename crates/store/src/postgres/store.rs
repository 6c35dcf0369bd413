//! An opened store on PostgreSQL: it starts and ends the tasks of the node, and passes operations on to the writers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use duroxide::providers::WorkItem;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::availability::Availability;
use crate::clock::span_ms;
use crate::error::{Result, StoreError};
use crate::events::StoreEvents;
use crate::policy::StorePolicy;
use crate::postgres::activity_token;
use crate::postgres::connect::session::Isolation;
use crate::postgres::connect::{self, Connections, PostgresTarget};
use crate::postgres::failover::Follower;
use crate::postgres::fetch::poller::Poller;
use crate::postgres::listener::listen;
use crate::postgres::node::request::WriteRequest;
use crate::postgres::node::state::NodeState;
use crate::postgres::queries::Server;
use crate::postgres::write::writer::BatchWriter;
use crate::start::StartRequest;

/// How long closing waits for running operations.
const LONGEST_CLOSE: Duration = Duration::from_secs(10);
/// How long it waits for them if the server does not answer.
const LONGEST_CLOSE_OF_SILENT: Duration = Duration::from_millis(500);
/// The longest pause of work that this node has no room to ignore. Other nodes must wait for its end, too.
const PAUSE_WITHOUT_ROOM: Duration = Duration::from_secs(5);
/// How long a node that ends waits for the server to forget its report.
const LONGEST_REPORT: Duration = Duration::from_secs(1);

/// A schema of a PostgreSQL server, opened.
pub struct PostgresStore {
    pub connections: Connections,
    pub availability: Arc<Availability>,
    pub core: Arc<NodeState>,
    writers: Mutex<Vec<JoinHandle<()>>>,
    /// The task of the poller, which begins with the first call that needs it.
    poller: Mutex<Option<JoinHandle<()>>>,
    /// The task that receives notifications, which begins with the first runtime or watch.
    listener: Mutex<Option<JoinHandle<()>>>,
    /// The task that moves the store to another server, if its URL allows that.
    follower: Mutex<Option<Follower>>,
    /// Held while a runtime begins or ends. A runtime that begins must not lose its leases to the end of another one.
    change_of_runtimes: tokio::sync::Mutex<()>,
}

impl PostgresStore {
    /// Opens the store that users get.
    pub async fn connect(target: PostgresTarget) -> Result<Self, StoreError> {
        Ok(Self::open(connect::open(target).await?, StorePolicy::SHIPPED))
    }

    pub fn open(mut connections: Connections, policy: StorePolicy) -> Self {
        let isolation = Isolation::new(connections.session_features);
        let (core, operations) = NodeState::new(
            connections.pool.clone(),
            connections.schema.clone(),
            isolation,
            connections.moves.clone(),
            policy,
            connections.digest_key.clone(),
        );
        let operations = Arc::new(tokio::sync::Mutex::new(operations));
        let writer = || tokio::spawn(BatchWriter::new(Arc::clone(&core)).run(Arc::clone(&operations)));
        let writers = (0..connections.options.writing_connections()).map(|_| writer()).collect();
        let availability = Availability::of(connections.description.clone());
        let follower = Mutex::new(Follower::start(&mut connections, &core));
        Self {
            connections,
            availability,
            core,
            writers: Mutex::new(writers),
            poller: Mutex::default(),
            listener: Mutex::default(),
            follower,
            change_of_runtimes: tokio::sync::Mutex::default(),
        }
    }

    pub fn server(&self) -> Server<'_> {
        Server { pool: &self.core.pool, schema: &self.core.schema }
    }

    /// Reports changes by other nodes to `events`. Only the first call has an effect.
    pub fn report_to(&self, events: Arc<dyn StoreEvents>) {
        let _ = self.core.events.set(events);
    }

    /// Starts the task that receives the notifications of other nodes, and the poller.
    pub fn start_listening(&self) {
        let mut listener = self.listener.lock();
        if listener.is_none()
            && self.connections.session_features
            && let Some(events) = self.core.events.get().cloned()
        {
            *listener = Some(tokio::spawn(listen(Arc::clone(&self.core), events)));
        }
        drop(listener);
        self.start_poller();
    }

    /// Whether the notifications of other nodes arrive at present.
    pub fn is_listening(&self) -> bool {
        self.core.is_listening.load(Ordering::Acquire)
    }

    /// Starts the poller, which looks for work that fetches wait for, and sends the notifications of this node.
    pub fn start_poller(&self) {
        let mut poller = self.poller.lock();
        if poller.is_none() {
            *poller = Some(tokio::spawn(Poller::new(Arc::clone(&self.core), Arc::clone(&self.availability)).run()));
        }
    }

    /// Notes that a runtime begins to work on this store.
    pub async fn begin_dispatching(&self) {
        let _change = self.change_of_runtimes.lock().await;
        self.core.dispatching.fetch_add(1, Ordering::AcqRel);
        // The new runtime may have the code that the others lack.
        self.core.left_to_others.clear();
        self.core.must_report.store(true, Ordering::Release);
        self.start_listening();
    }

    /// Gives back the leases of this node when its last runtime has ended, since its process may end at once.
    pub async fn end_dispatching(&self) {
        let _change = self.change_of_runtimes.lock().await;
        if self.core.dispatching.fetch_sub(1, Ordering::AcqRel) > 1 {
            // The other runtimes take what was leased for this one, or the poller gives it back.
            return;
        }
        if self.core.answers().await {
            self.give_back().await;
            // If this fails, the report is too old in a moment.
            let _ = timeout(LONGEST_REPORT, self.server().forget_node(&self.core.node)).await;
        }
    }

    /// Gives back every lease of this node, also those that are on their way.
    async fn give_back(&self) {
        self.core.wait_for_leases().await;
        if let Err(error) = self.core.give_back_everything().await {
            tracing::warn!(
                target: "duroxide::store",
                "the leases of this process could not be given back: {error}; other nodes wait until they end"
            );
        }
    }

    /// Ends the tasks, gives the prefetched work back, and closes all connections.
    pub async fn close(&self) {
        let answers = self.core.answers().await;
        if answers && self.core.has_fetched() {
            self.give_back().await;
        }
        let tasks = [self.poller.lock().take(), self.listener.lock().take()];
        for task in tasks.into_iter().flatten() {
            task.abort();
            let _ = task.await;
        }
        drop(self.follower.lock().take());
        let writers = std::mem::take(&mut *self.writers.lock());
        for writer in writers {
            writer.abort();
            let _ = writer.await;
        }
        self.connections.close(if answers { LONGEST_CLOSE } else { LONGEST_CLOSE_OF_SILENT }).await;
    }

    /// Starts an instance. Returns the orchestration that the instance runs already, if it exists.
    pub async fn start(&self, request: StartRequest) -> Result<Option<String>> {
        self.start_poller();
        self.core.submit("start_orchestration", WriteRequest::Start(request)).await
    }

    /// Tells the pollers of this node and of the others that another connection of this process has sent messages.
    pub fn announce_sent_messages(&self) {
        self.start_poller();
        self.core.notifier.announce_turns();
        self.core.hint_turns();
    }

    /// Sends messages, all of them or none.
    pub async fn send(&self, messages: Vec<WorkItem>, delay_ms: Option<i64>) -> Result<()> {
        self.start_poller();
        self.core.submit("enqueue_for_orchestrator", WriteRequest::Messages(messages, delay_ms)).await?;
        Ok(())
    }

    /// Gives a turn back, and leaves it to the other nodes for `pause`.
    pub async fn leave_turn(&self, token: &str, pause: Duration) -> Result<()> {
        let held = self.core.held.get(token);
        let is_left = held.is_none_or(|held| self.core.left_to_others.leave_instance(&held.instance, pause));
        self.core.due_in(span_ms(pause));
        self.core.give_back_turn(token, (!is_left).then(|| pause.min(PAUSE_WITHOUT_ROOM)), false).await
    }

    /// Gives an activity back, and leaves it to the other nodes for `pause`.
    pub async fn leave_activity(&self, token: &str, pause: Duration) -> Result<()> {
        let (id, own) = activity_token::split(token)?;
        let is_left = self.core.left_to_others.leave_activity(id, pause);
        self.core.due_in(span_ms(pause));
        self.core.give_back_activity(id, own, (!is_left).then(|| pause.min(PAUSE_WITHOUT_ROOM)), false).await
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        let tasks = [self.poller.lock().take(), self.listener.lock().take()];
        for task in self.writers.lock().drain(..).chain(tasks.into_iter().flatten()) {
            task.abort();
        }
    }
}
