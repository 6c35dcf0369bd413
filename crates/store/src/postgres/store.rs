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
use crate::postgres::fetch::poller::Poller;
use crate::postgres::listener::listen;
use crate::postgres::node::request::WriteRequest;
use crate::postgres::node::state::NodeState;
use crate::postgres::queries::Server;
use crate::postgres::write::writer::BatchWriter;
use crate::start::StartRequest;

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
}

impl PostgresStore {
    /// Opens the store that users get.
    pub async fn connect(target: PostgresTarget) -> Result<Self, StoreError> {
        Ok(Self::open(connect::open(target).await?, StorePolicy::SHIPPED))
    }

    pub fn open(connections: Connections, policy: StorePolicy) -> Self {
        let isolation = Isolation::new(connections.session_features);
        let (core, operations) =
            NodeState::new(connections.pool.clone(), connections.schema.clone(), isolation, policy);
        let operations = Arc::new(tokio::sync::Mutex::new(operations));
        let writer = || tokio::spawn(BatchWriter::new(Arc::clone(&core)).run(Arc::clone(&operations)));
        let writers = (0..connections.options.writing_connections()).map(|_| writer()).collect();
        let availability = Availability::of(connections.description.clone());
        Self {
            connections,
            availability,
            core,
            writers: Mutex::new(writers),
            poller: Mutex::default(),
            listener: Mutex::default(),
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
    pub fn begin_dispatching(&self) {
        self.core.dispatching.fetch_add(1, Ordering::AcqRel);
        self.core.must_report.store(true, Ordering::Release);
        self.start_listening();
    }

    /// Gives back the prefetched work when a runtime has ended, since its process may end at once.
    pub async fn end_dispatching(&self) {
        if self.core.dispatching.fetch_sub(1, Ordering::AcqRel) > 1 {
            return self.give_back().await;
        }
        self.core.wait_for_leases().await;
        self.give_back().await;
        // If this fails, the report is too old in a moment.
        let _ = timeout(LONGEST_REPORT, self.server().forget_node(&self.core.node)).await;
        // The poller may have been about to give some work back, too.
        self.core.wait_for_leases().await;
    }

    async fn give_back(&self) {
        self.core.give_back_unwanted(Duration::ZERO, Duration::ZERO).await;
    }

    /// Ends the tasks, gives the prefetched work back, and closes all connections.
    pub async fn close(&self) {
        let tasks = [self.poller.lock().take(), self.listener.lock().take()];
        for task in tasks.into_iter().flatten() {
            task.abort();
            let _ = task.await;
        }
        self.give_back().await;
        let writers = std::mem::take(&mut *self.writers.lock());
        for writer in writers {
            writer.abort();
            let _ = writer.await;
        }
        self.connections.close().await;
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
        if let Some(held) = self.core.held.get(token) {
            self.core.left_to_others.leave_instance(&held.instance, pause);
        }
        self.core.due_in(span_ms(pause));
        self.core.give_back_turn(token, None, false).await
    }

    /// Gives an activity back, and leaves it to the other nodes for `pause`.
    pub async fn leave_activity(&self, token: &str, pause: Duration) -> Result<()> {
        let (id, own) = activity_token::split(token)?;
        self.core.left_to_others.leave_activity(id, pause);
        self.core.due_in(span_ms(pause));
        self.core.give_back_activity(id, own, None, false).await
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
