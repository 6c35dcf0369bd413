use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use duroxide::providers::{ExecutionMetadata, TagFilter};
use duroxide::{Event, EventKind};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::*;
use crate::code_time::CodeTime;
use crate::operations::{AdminOperations as _, EngineOperations as _};
use crate::policy::StorePolicy;
use crate::sqlite::file::connection;
use crate::sqlite::testing::{Folder, eventually};
use crate::termination::Termination;
use crate::turn_commit::TurnCommit;
use crate::types::Durability;

const LEASE: Duration = Duration::from_secs(60);
const AT_ONCE: Duration = Duration::from_secs(5);

fn open(path: &Path) -> Arc<Owner> {
    owner_of(connection::open(path, Durability::Full).unwrap(), Some(path.to_owned()))
}

fn open_in_memory() -> Arc<Owner> {
    owner_of(connection::in_memory().unwrap(), None)
}

fn owner_of(connection: Connection, file: Option<PathBuf>) -> Arc<Owner> {
    Owner::open(OwnerOptions {
        description: "a store under test".to_owned(),
        connection,
        file,
        lock: None,
        policy: StorePolicy::SHIPPED,
        session_limits: Arc::default(),
    })
    .unwrap()
}

fn request(instance: &str) -> StartRequest {
    StartRequest {
        instance: instance.to_owned(),
        orchestration: "order".to_owned(),
        input: String::new(),
        version: None,
        due_ms: None,
    }
}

fn start_of(instance: &str) -> WorkItem {
    WorkItem::StartOrchestration {
        instance: instance.to_owned(),
        orchestration: "order".to_owned(),
        input: String::new(),
        version: None,
        parent_instance: None,
        parent_id: None,
        parent_execution_id: None,
        execution_id: 1,
    }
}

fn message(data: &str) -> WorkItem {
    WorkItem::QueueMessage { instance: "a".to_owned(), name: "inbox".to_owned(), data: data.to_owned() }
}

fn raised() -> WorkItem {
    WorkItem::ExternalRaised { instance: "a".to_owned(), name: "go".to_owned(), data: String::new() }
}

fn data(messages: &[WorkItem]) -> Vec<&str> {
    let queued = messages.iter().filter_map(|message| match message {
        WorkItem::QueueMessage { data, .. } => Some(data.as_str()),
        _ => None,
    });
    queued.collect()
}

fn begun() -> Vec<Event> {
    let kind = EventKind::OrchestrationStarted {
        name: "order".to_owned(),
        version: "1.0.0".to_owned(),
        input: String::new(),
        parent_instance: None,
        parent_id: None,
        parent_execution_id: None,
        carry_forward_events: None,
        initial_custom_status: None,
    };
    vec![Event::with_event_id(1, "a", 1, None, kind)]
}

fn ended() -> Vec<Event> {
    let mut events = begun();
    let kind = EventKind::OrchestrationCompleted { output: String::new() };
    events.push(Event::with_event_id(2, "a", 1, None, kind));
    events
}

fn recorded(status: Option<&str>) -> ExecutionMetadata {
    ExecutionMetadata {
        status: status.map(str::to_owned),
        orchestration_name: Some("order".to_owned()),
        orchestration_version: Some("1.0.0".to_owned()),
        ..ExecutionMetadata::default()
    }
}

impl Owner {
    /// Fetches the next turn, and returns its messages and its token.
    async fn turn(&self) -> Option<(Vec<WorkItem>, String)> {
        let fetched = self.fetch_orchestration_item(LEASE, AT_ONCE, None).await.unwrap();
        fetched.map(|(item, token, _)| (item.messages, token))
    }

    async fn end(&self, token: &str, delta: Vec<Event>, metadata: ExecutionMetadata) -> Result<()> {
        let commit = TurnCommit { execution_id: 1, delta, metadata, ..TurnCommit::default() };
        self.commit_turn(token, Arc::new(commit)).await
    }

    /// Starts the instance `a`, and fetches its first turn.
    async fn start_one(&self) -> String {
        self.start(vec![request("a")], IfExists::Raise).await.unwrap();
        self.turn().await.unwrap().1
    }

    async fn start_and_end_one(&self) {
        let token = self.start_one().await;
        self.end(&token, ended(), recorded(Some("Completed"))).await.unwrap();
    }

    fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        let counted = self.core.read("count", |connection| {
            connection.query_row(&sql, [], |row| row.get(0)).map_err(read::failed("count"))
        });
        counted.unwrap()
    }

    async fn waiting(&self) -> usize {
        self.get_queue_depths().await.unwrap().orchestrator_queue
    }
}

/// Keeps the writer thread busy until this is dropped.
struct BlockedWriter {
    _end: mpsc::Sender<()>,
}

impl BlockedWriter {
    async fn of(owner: &Arc<Owner>) -> Self {
        let (end, ended) = mpsc::channel();
        let (begin, running) = oneshot::channel();
        let owner = Arc::clone(owner);
        tokio::spawn(async move {
            let task = move |_: &mut Connection, _: &OwnerCore| {
                begin.send(()).ok();
                ended.recv().ok();
                Ok(())
            };
            owner.core.perform(task).await
        });
        running.await.unwrap();
        Self { _end: end }
    }
}

fn wait_for_jobs(owner: &Owner, jobs: usize) {
    eventually("the sending of the jobs", || owner.core.jobs.len() == jobs);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_instance_takes_no_event_although_it_was_started_again() {
    let folder = Folder::new();
    let owner = open(&folder.join("store.db"));
    owner.start_and_end_one().await;
    owner.enqueue_for_orchestrator(start_of("a"), None).await.unwrap();
    let (_, token) = owner.turn().await.unwrap();
    owner.end(&token, Vec::new(), ExecutionMetadata::default()).await.unwrap();

    owner.enqueue_for_orchestrator(raised(), None).await.unwrap();

    assert_eq!((owner.waiting().await, owner.count("messages")), (0, 0));
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_termination_during_the_write_of_a_turn_follows_the_turn() {
    let folder = Folder::new();
    let owner = open(&folder.join("store.db"));
    let token = owner.start_one().await;
    let blocked = BlockedWriter::of(&owner).await;
    let ending = Arc::clone(&owner);
    let ending = tokio::spawn(async move { ending.end(&token, begun(), recorded(None)).await });
    wait_for_jobs(&owner, 1);
    let terminating = Arc::clone(&owner);
    let terminating = tokio::spawn(async move {
        let (instance, reason) = ("a".to_owned(), "enough".to_owned());
        terminating.terminate(&Termination { instance, reason, output: None, is_recursive: true }).await
    });
    wait_for_jobs(&owner, 2);

    drop(blocked);

    ending.await.unwrap().unwrap();
    assert_eq!(terminating.await.unwrap().unwrap(), ["a"]);
    let kinds: Vec<_> = owner.read("a").await.unwrap().into_iter().map(|event| event.kind).collect();
    assert!(
        matches!(
            kinds.as_slice(),
            [
                EventKind::OrchestrationStarted { .. },
                EventKind::OrchestrationCancelRequested { .. },
                EventKind::OrchestrationFailed { .. }
            ]
        ),
        "{kinds:?}"
    );
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_during_the_write_of_the_last_turn_does_not_stay() {
    let folder = Folder::new();
    let owner = open(&folder.join("store.db"));
    let token = owner.start_one().await;
    let blocked = BlockedWriter::of(&owner).await;
    let ending = Arc::clone(&owner);
    let ending = tokio::spawn(async move { ending.end(&token, ended(), recorded(Some("Completed"))).await });
    wait_for_jobs(&owner, 1);
    let sending = Arc::clone(&owner);
    let sending = tokio::spawn(async move { sending.enqueue_for_orchestrator(raised(), None).await });
    wait_for_jobs(&owner, 2);
    drop(blocked);
    ending.await.unwrap().unwrap();
    sending.await.unwrap().unwrap();

    // The engine acknowledges an event for an ended instance without doing anything.
    let (_, token) = owner.turn().await.expect("the event is handed out");
    owner.end(&token, Vec::new(), ExecutionMetadata::default()).await.unwrap();

    assert_eq!((owner.waiting().await, owner.count("messages")), (0, 0));
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_turn_counts_from_the_end_of_its_code() {
    let folder = Folder::new();
    let owner = open(&folder.join("store.db"));
    let token = owner.start_one().await;
    let code_time = Arc::new(CodeTime::default());
    owner.extend_lease_while_running(&token, &code_time);
    let during_its_code = code_time.run(Instant::now);
    let token = token.parse().unwrap();

    // Counted from its beginning, the lease would have ended.
    owner.core.lock().expire(during_its_code + LEASE);
    assert!(owner.core.lock().turn(token).is_some());

    owner.core.lock().expire(Instant::now() + LEASE);
    assert!(owner.core.lock().turn(token).is_none());
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_does_not_overtake_one_that_was_put_off() {
    let folder = Folder::new();
    let owner = open(&folder.join("store.db"));
    let token = owner.start_one().await;
    owner.end(&token, begun(), recorded(None)).await.unwrap();
    owner.enqueue_for_orchestrator(message("first"), None).await.unwrap();
    let (_, token) = owner.turn().await.unwrap();
    owner.abandon_orchestration_item(&token, Some(Duration::from_secs(3600)), true).await.unwrap();

    owner.enqueue_for_orchestrator(message("second"), None).await.unwrap();

    let (messages, _) = owner.turn().await.unwrap();
    assert_eq!(data(&messages), ["first", "second"]);
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_waits_for_one_that_was_put_off_does_not_return_it() {
    let folder = Folder::new();
    let owner = open(&folder.join("store.db"));
    let token = owner.start_one().await;
    let mut delta = begun();
    delta.push(Event::with_event_id(2, "a", 1, None, EventKind::ExternalSubscribed { name: "go".to_owned() }));
    owner.end(&token, delta, recorded(None)).await.unwrap();
    owner.enqueue_for_orchestrator(raised(), None).await.unwrap();
    let (_, token) = owner.turn().await.unwrap();
    owner.enqueue_for_orchestrator(raised(), None).await.unwrap();

    owner.abandon_orchestration_item(&token, Some(Duration::from_secs(3600)), true).await.unwrap();

    assert!(owner.turn().await.is_none());
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_attempt_of_an_activity_is_on_the_disk_when_its_process_ends() {
    let folder = Folder::new();
    let path = folder.join("store.db");
    let owner = open(&path);
    let activity = WorkItem::ActivityExecute {
        instance: "a".to_owned(),
        execution_id: 1,
        id: 2,
        name: "pack".to_owned(),
        input: String::new(),
        session_id: None,
        tag: None,
    };
    owner.enqueue_for_worker(activity).await.unwrap();
    owner.fetch_work_item(LEASE, AT_ONCE, None, &TagFilter::DefaultOnly).await.unwrap().unwrap();
    owner.close().await;

    let attempts: u32 =
        Connection::open(&path).unwrap().query_row("SELECT attempts FROM activities", [], |row| row.get(0)).unwrap();

    assert_eq!(attempts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_first_start_was_void_can_be_started() {
    let folder = Folder::new();
    let owner = open(&folder.join("store.db"));
    let token = owner.start_one().await;
    let blocked = BlockedWriter::of(&owner).await;
    let deleting = Arc::clone(&owner);
    let deleting = tokio::spawn(async move { deleting.delete_instances_atomic(&["a".to_owned()], true).await });
    wait_for_jobs(&owner, 1);
    let ending = Arc::clone(&owner);
    let ending = tokio::spawn(async move {
        let commit = TurnCommit {
            execution_id: 1,
            delta: begun(),
            messages: vec![start_of("child")],
            metadata: recorded(None),
            ..TurnCommit::default()
        };
        ending.commit_turn(&token, Arc::new(commit)).await
    });
    wait_for_jobs(&owner, 2);
    drop(blocked);
    deleting.await.unwrap().unwrap();
    ending.await.unwrap().unwrap_err();

    let started = owner.start(vec![request("child")], IfExists::Raise).await;

    assert_eq!(started, Ok(vec![StartOutcome::Started]));
    assert_eq!((owner.count("instances"), owner.count("messages")), (1, 1));
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_stays_known_while_the_file_is_searched_for_another() {
    let owner = open_in_memory();
    owner.start(vec![request("idle")], IfExists::Raise).await.unwrap();
    let (_, token) = owner.turn().await.unwrap();
    owner.end(&token, begun(), recorded(None)).await.unwrap();
    let token = owner.start_one().await;
    // The store has one connection, so the search waits.
    let connection = owner.core.connection.lock();
    let ending = Arc::clone(&owner);
    let ending = tokio::spawn(async move {
        let to_idle =
            WorkItem::ExternalRaised { instance: "idle".to_owned(), name: "go".to_owned(), data: String::new() };
        let commit = TurnCommit {
            execution_id: 1,
            delta: begun(),
            messages: vec![to_idle, start_of("child")],
            metadata: recorded(None),
            ..TurnCommit::default()
        };
        ending.commit_turn(&token, Arc::new(commit)).await
    });
    eventually("the search for the child", || owner.core.lock().numbers.contains_key("child"));
    {
        let mut state = owner.core.lock();
        let number = state.numbers["idle"];
        state.forget_if_idle(number);
    }
    drop(connection);

    assert_eq!(ending.await.unwrap(), Ok(()));
    assert_eq!(owner.count("instances"), 3);
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_was_deleted_during_a_lookup_can_be_started_again() {
    let folder = Folder::new();
    let owner = open(&folder.join("store.db"));
    owner.start_and_end_one().await;
    let looking = Arc::clone(&owner);
    let looking = tokio::task::spawn_blocking(move || {
        let others: Vec<String> = (0..30_000).map(|number| number.to_string()).collect();
        let ids: Vec<&str> = std::iter::once("a").chain(others.iter().map(String::as_str)).collect();
        looking.core.with_instances(&ids, |_, _| ()).unwrap();
    });
    eventually("the lookup", || owner.core.lock().numbers.len() > 30_000);
    owner.delete_instances_atomic(&["a".to_owned()], false).await.unwrap();
    looking.await.unwrap();

    let started = owner.start(vec![request("a")], IfExists::Raise).await;

    assert_eq!(started, Ok(vec![StartOutcome::Started]));
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_during_the_deletion_of_its_instance_leaves_no_row() {
    let folder = Folder::new();
    let owner = open(&folder.join("store.db"));
    let token = owner.start_one().await;
    owner.end(&token, begun(), recorded(None)).await.unwrap();
    let blocked = BlockedWriter::of(&owner).await;
    let deleting = Arc::clone(&owner);
    let deleting = tokio::spawn(async move { deleting.delete_instances_atomic(&["a".to_owned()], true).await });
    wait_for_jobs(&owner, 1);
    let sending = Arc::clone(&owner);
    let sending = tokio::spawn(async move { sending.enqueue_for_orchestrator(message("late"), None).await });
    wait_for_jobs(&owner, 2);
    drop(blocked);
    deleting.await.unwrap().unwrap();
    sending.await.unwrap().unwrap();

    assert_eq!(owner.count("messages"), 0);
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_orphaned_message_is_dropped_at_its_time() {
    let folder = Folder::new();
    let owner = open(&folder.join("store.db"));
    owner.enqueue_for_orchestrator(message("old"), None).await.unwrap();
    owner.enqueue_for_orchestrator(message("young"), None).await.unwrap();
    let (number, oldest) = {
        let mut state = owner.core.lock();
        let number = state.numbers["a"];
        (number, state.get(number).unwrap().queue[0].sequence)
    };

    owner.core.drop_orphans_of(number, oldest);

    owner.start(vec![request("a")], IfExists::Raise).await.unwrap();
    let (messages, _) = owner.turn().await.unwrap();
    assert_eq!(data(&messages), ["young"]);
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unneeded_timers_leave_memory() {
    let folder = Folder::new();
    let owner = open(&folder.join("store.db"));
    let next_year = crate::clock::after_ms(Duration::from_secs(365 * 86_400));

    let mut state = owner.core.lock();
    for number in 0..100_000 {
        state.schedule(next_year, crate::sqlite::owner::memory::due_item::DueItem::Message(number, number));
    }

    assert!(state.timers() < 10_000);
    drop(state);
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_do_not_make_the_log_grow_without_limit() {
    let folder = Folder::new();
    let path = folder.join("store.db");
    let owner = open(&path);
    let large = "x".repeat(1 << 20);
    for _ in 0..200 {
        owner.enqueue_for_orchestrator(message(&large), None).await.unwrap();
    }
    let log = std::fs::metadata(crate::sqlite::file::paths::log_of(&path)).unwrap().len();
    assert!(log < 100 << 20, "the log has {log} bytes");
    owner.close().await;
}
