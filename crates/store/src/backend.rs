//! The seam between the package and a database: a new store implements [`Backend`] and gets a line in
//! [`Store::open`](crate::Store::open).

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use duroxide::providers::WorkItem;

use crate::code_time::CodeTime;
use crate::error::{Result, StoreError};
use crate::events::StoreEvents;
use crate::failure::FailureKind;
use crate::listing::{InstanceCount, InstanceQuery, InstanceSummary, PageRequest};
use crate::live::LiveState;
use crate::operations::{AdminOperations, EngineOperations};
use crate::outbox::{Relay, Relayed};
use crate::session_limits::SessionLimits;
use crate::start::{IfExists, StartOutcome, StartRequest, WaitingStart};
use crate::termination::Termination;
use crate::types::InstanceState;

/// Where stores differ in a way that the engine adapter has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the differences are independent of each other")]
pub struct Traits {
    /// Other processes may run what this process cannot, so work can be left to them.
    pub has_other_nodes: bool,
    /// The lease of a turn counts from the end of its code, without renewals while the code runs.
    pub leases_from_code_end: bool,
    /// A read costs so little that every commit may wake the waits of its instance.
    pub cheap_looks: bool,
    /// The provider counts instances between two executions as ended when it deletes by a filter.
    pub lists_continued: bool,
    /// `get_instance_info` and `get_execution_info` know when instances and executions started and ended.
    pub knows_times: bool,
}

/// Instances that ended long ago.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EndedInstances {
    pub ids: Vec<String>,
    /// All of them ended before this time, in ms since the epoch by the clock of the store.
    pub before_ms: u64,
}

/// A database as this package needs it: the operations of the engine's interface, plus what that interface lacks.
#[async_trait]
pub trait Backend: EngineOperations + AdminOperations {
    /// The name of the store in the logs of the engine.
    fn name(&self) -> &'static str;

    fn traits(&self) -> Traits;

    /// The schema of the tables as the server has the name; `None` in a store without schemas.
    fn schema(&self) -> Option<&str> {
        None
    }

    /// Reports changes to `events` from now on. Called at most once.
    fn subscribe(&self, events: Arc<dyn StoreEvents>);

    /// Whether every change of the store is reported to the subscribed events at present.
    fn reports_all_changes(&self) -> bool;

    /// Prepares for a wait: makes sure that changes by other processes are reported, or returns what resolves with
    /// their next commit.
    fn watch_commits(&self) -> Option<Box<dyn NextCommit>>;

    /// What stands for an instance in the events of changes by other processes; `None` if its id does.
    fn digest(&self, _instance: &str) -> Option<String> {
        None
    }

    /// How many rows of the queues this process leaves out because of their values.
    fn rows_left_out(&self) -> usize {
        0
    }

    /// Makes this process the one that works on the store, or the next in line where only one process can.
    async fn begin_dispatching(self: Arc<Self>) -> Result<(), StoreError>;

    /// Lets other processes work on the store after a runtime has ended.
    async fn end_dispatching(&self);

    /// Whether this process works on the store. A standby and a mere client do not.
    fn is_at_work(&self) -> bool;

    /// Whether the database answers at present. A runtime that ends does not wait for one that is gone.
    async fn answers(&self) -> bool {
        true
    }

    /// Ends the tasks and threads of the store and closes its connections.
    async fn close(&self);

    /// Copies the store into a new file, as it is at one moment.
    async fn back_up(&self, target: &Path) -> Result<(), StoreError>;

    /// Adds indexes and settings that a large store needs, and returns what was missing.
    async fn tune(&self) -> Result<Vec<String>, StoreError>;

    /// The statements that give the role of this store the rights that it lacks, where a store has roles.
    async fn missing_rights(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Starts instances, all of them or none, in one transaction.
    async fn start(&self, requests: Vec<StartRequest>, if_exists: IfExists) -> Result<Vec<StartOutcome>, StoreError>;

    /// Sends messages, all of them or none, in one transaction.
    async fn send(&self, messages: Vec<WorkItem>) -> Result<(), StoreError>;

    /// The orchestration that an instance runs, or that a waiting start will run; `None` if there is neither.
    async fn orchestration_of(&self, instance: &str) -> Result<Option<String>, StoreError>;

    /// Which of these instances have ended: a message to them would be dropped.
    async fn ended(&self, instances: &[String]) -> Result<HashSet<String>>;

    /// The state of an instance; `None` if it does not exist. An instance whose start waits is running.
    async fn instance_state(&self, instance: &str) -> Result<Option<InstanceState>>;

    /// When an instance was created, in the unit of the store; `None` if the instance does not exist. The time never
    /// changes. It tells an instance from an earlier one of the same id.
    async fn created(&self, instance: &str) -> Result<Option<u64>> {
        match self.get_instance_info(instance).await {
            Ok(info) => Ok(Some(info.created_at)),
            Err(failure) if failure.kind == FailureKind::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The start of an instance that no turn has read yet.
    async fn waiting_start(&self, instance: &str) -> Result<Option<WaitingStart>>;

    /// The ids of the instances whose starts no turn has read yet.
    async fn waiting_starts(&self) -> Result<Vec<String>>;

    /// How many instances have starts that no turn has read yet.
    async fn count_waiting_starts(&self) -> Result<u64>;

    /// The summaries of a page, in its order; one more than its limit if there is another page.
    async fn page(&self, request: &PageRequest) -> Result<Vec<InstanceSummary>, StoreError>;

    /// How many instances of each name have each status.
    async fn counts(&self, query: &InstanceQuery) -> Result<Vec<InstanceCount>, StoreError>;

    /// The sub-orchestrations of `parents` whose starts no turn has read yet.
    async fn waiting_children(&self, parents: &[String]) -> Result<Vec<String>>;

    /// How many instances have not ended, also those whose starts wait.
    async fn count_running(&self) -> Result<u64>;

    /// The ids of the instances that wait for code that fits their history.
    async fn mismatched(&self) -> Result<Vec<String>>;

    /// Terminates an instance and, if asked, all below it. Returns the instances that this call has ended. An instance that
    /// has ended stays as it is.
    async fn terminate(&self, request: &Termination) -> Result<Vec<String>, StoreError>;

    /// What is under way for an instance, and which processes could continue it.
    async fn live_state(&self, instance: &str) -> Result<LiveState>;

    /// The id of this process in the reports of the nodes.
    fn node_id(&self) -> String;

    /// When an instance was created and last changed, in ms since the epoch, where [`Traits::knows_times`] does not
    /// hold; `None` if the instance does not exist.
    async fn instance_times(&self, _instance: &str) -> Result<Option<(u64, u64)>> {
        Ok(None)
    }

    /// At most `limit` of the instances that ended longer ago than `kept` and have no parent, where the provider cannot
    /// pick them itself; `None` where it can.
    async fn ended_instances(&self, _kept: Duration, _limit: u32) -> Result<Option<EndedInstances>> {
        Ok(None)
    }

    /// The key of the last row that was taken over from an outbox.
    async fn relayed(&self, outbox: &str) -> Result<Option<i64>, StoreError>;

    /// Takes over rows of an outbox, where this process works on the store.
    async fn relay(&self, relay: Relay) -> Result<Relayed, StoreError>;

    /// Why `instance` waits for code that fits its history, if it does.
    async fn mismatch(&self, instance: &str) -> Result<Option<String>>;

    /// Records why an instance waits, until its next turn is committed. `is_new` says that this process has not
    /// recorded the same before.
    async fn note_mismatch(&self, instance: &str, report: &str, is_new: bool) -> Result<()>;

    /// Makes the lease of a turn count from the end of its code, where [`Traits::leases_from_code_end`] says so.
    fn extend_lease_while_running(&self, _token: &str, _code_time: &Arc<CodeTime>) {}

    /// Gives a turn back without counting it, and leaves it to other processes for `pause`.
    async fn leave_turn(&self, token: &str, pause: Duration) -> Result<()>;

    /// Gives an activity back without counting it, and leaves it to other processes for `pause`.
    async fn leave_activity(&self, token: &str, pause: Duration) -> Result<()>;

    /// The limits that the store holds when it leases activities of sessions.
    fn session_limits(&self) -> &SessionLimits;

    /// Takes back that deliveries of turns and activities count, whose leases stay, where no other process could have
    /// the leases.
    async fn uncount(&self, _turns: &[String], _activities: &[String]) -> Result<()> {
        Ok(())
    }

    /// Lets other processes take sessions whose owners will not come back.
    async fn release_sessions(&self, _owners: &[String]) -> Result<()> {
        Ok(())
    }
}

/// The next commit of another process.
#[async_trait]
pub trait NextCommit: Send {
    async fn wait(&mut self);
}
