//! The store as the rest of the package uses it, and the tasks that work for it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use duroxide::providers::WorkItem;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::availability::Availability;
use crate::clock::span_ms;
use crate::error::Result;
use crate::events::StoreEvents;
use crate::policy::StorePolicy;
use crate::postgres::connect::Connections;
use crate::postgres::fetch::poller::Poller;
use crate::postgres::node::request::WriteRequest;
use crate::postgres::node::state::NodeState;
use crate::postgres::notify::listen;
use crate::postgres::queries::Server;
use crate::postgres::write::writer::BatchWriter;
use crate::start::StartRequest;

/// A schema of a PostgreSQL server, opened.
pub struct PostgresStore {
    pub connections: Connections,
    pub availability: Arc<Availability>,
    pub core: Arc<NodeState>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Looks for work, and hears what others tell, from the first moment that somebody needs it.
    looking: Mutex<Option<JoinHandle<()>>>,
    hearing: Mutex<Option<JoinHandle<()>>>,
    events: OnceLock<Arc<dyn StoreEvents>>,
}

impl PostgresStore {
    pub fn open(connections: Connections, policy: StorePolicy) -> Self {
        let (core, operations) = NodeState::new(connections.pool.clone(), connections.schema.clone(), policy);
        let operations = Arc::new(tokio::sync::Mutex::new(operations));
        let writer = || tokio::spawn(BatchWriter::new(Arc::clone(&core)).run(Arc::clone(&operations)));
        let tasks = (0..connections.options.writing_connections()).map(|_| writer()).collect();
        let availability = Availability::of(connections.description.clone());
        Self {
            connections,
            availability,
            core,
            tasks: Mutex::new(tasks),
            looking: Mutex::default(),
            hearing: Mutex::default(),
            events: OnceLock::new(),
        }
    }

    pub fn server(&self) -> Server<'_> {
        Server { pool: &self.core.pool, schema: &self.core.schema }
    }

    /// Reports changes by other nodes to `events`. Only the first call has an effect.
    pub fn report_to(&self, events: Arc<dyn StoreEvents>) {
        let _ = self.events.set(events);
    }

    /// Hears of what other nodes commit from now on.
    pub fn hear(&self) {
        let mut hearing = self.hearing.lock();
        if hearing.is_none()
            && self.connections.session_features
            && let Some(events) = self.events.get().cloned()
        {
            *hearing = Some(tokio::spawn(listen(Arc::clone(&self.core), events)));
        }
        drop(hearing);
        self.look();
    }

    /// Whether what other nodes tell is heard at present.
    pub fn hears(&self) -> bool {
        self.core.is_hearing.load(Ordering::Acquire)
    }

    /// Looks for work, where somebody waits for it, and tells others of it.
    pub fn look(&self) {
        let mut looking = self.looking.lock();
        if looking.is_none() {
            *looking = Some(tokio::spawn(Poller::new(Arc::clone(&self.core), Arc::clone(&self.availability)).run()));
        }
    }

    /// A runtime begins to work here.
    pub fn begin_dispatching(&self) {
        self.core.dispatching.fetch_add(1, Ordering::AcqRel);
        self.hear();
    }

    /// Gives back what nobody here will run, when a runtime has ended: its process may end at once.
    pub async fn end_dispatching(&self) {
        if self.core.dispatching.fetch_sub(1, Ordering::AcqRel) > 1 {
            return self.give_back().await;
        }
        self.core.settle().await;
        self.give_back().await;
        // Who looks for work may have been about to give some back.
        self.core.settle().await;
    }

    async fn give_back(&self) {
        self.core.give_back_unwanted(Duration::ZERO, Duration::ZERO).await;
    }

    /// Ends the tasks, gives back what nobody will run, and closes all connections.
    pub async fn close(&self) {
        let tasks = [self.looking.lock().take(), self.hearing.lock().take()];
        for task in tasks.into_iter().flatten() {
            task.abort();
            let _ = task.await;
        }
        self.give_back().await;
        let writers = std::mem::take(&mut *self.tasks.lock());
        for writer in writers {
            writer.abort();
            let _ = writer.await;
        }
        self.connections.close().await;
    }

    /// Starts an instance; the orchestration that it runs already, if there is one.
    pub async fn start(&self, request: StartRequest) -> Result<Option<String>> {
        self.look();
        self.core.submit("start_orchestration", WriteRequest::Start(request)).await
    }

    /// What another connection of this process has sent is looked for at once, here and elsewhere.
    pub fn look_again(&self) {
        self.look();
        self.core.outbox.tell_turns();
        self.core.hint_turns();
    }

    /// Sends messages, all of them or none.
    pub async fn send(&self, messages: Vec<WorkItem>, delay_ms: Option<i64>) -> Result<()> {
        self.look();
        self.core.submit("enqueue_for_orchestrator", WriteRequest::Messages(messages, delay_ms)).await?;
        Ok(())
    }

    /// Leaves a turn to the other nodes, for so long at most.
    pub async fn leave_turn(&self, token: &str, pause: Duration) -> Result<()> {
        if let Some(held) = self.core.held.get(token) {
            self.core.left.leave_instance(&held.instance, pause);
        }
        self.core.due_in(span_ms(pause));
        self.core.give_back_turn(token, None, false).await
    }

    /// Leaves an activity to the other nodes, for so long at most.
    pub async fn leave_activity(&self, token: &str, pause: Duration) -> Result<()> {
        let (id, own) = crate::postgres::provider::parts(token)?;
        self.core.left.leave_activity(id, pause);
        self.core.due_in(span_ms(pause));
        self.core.give_back_activity(id, own, None, false).await
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        let tasks = [self.looking.lock().take(), self.hearing.lock().take()];
        for task in self.tasks.lock().drain(..).chain(tasks.into_iter().flatten()) {
            task.abort();
        }
    }
}
