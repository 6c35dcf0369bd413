//! Tests of the stores under the real engine, with handlers in Rust. They wait with watches instead of polling, so a
//! test hangs if a wake-up is missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use duroxide::runtime::Runtime;
use duroxide::runtime::registry::ActivityRegistry;
use duroxide::{
    ActivityContext, Client, OrchestrationContext, OrchestrationRegistry, OrchestrationStatus, RuntimeOptions,
};
use semver::Version;

use duroxide::providers::Provider;
use store::start::{IfExists, StartOutcome, StartRequest};
use store::types::Durability;
use store::{PostgresConnection, PostgresOptions, PostgresTarget, Store, StoreError, StoreTarget};

use super::*;

async fn in_memory() -> EngineAdapter {
    EngineAdapter::over(Store::open(StoreTarget::Memory).await.unwrap())
}

async fn open(target: StoreTarget) -> Result<EngineAdapter, StoreError> {
    Ok(EngineAdapter::over(Store::open(target).await?))
}

async fn open_file(path: &Path) -> Result<EngineAdapter, StoreError> {
    open(StoreTarget::Sqlite { path: path.to_owned(), durability: Durability::Full }).await
}

struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("duroxide-store-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct RunningStore {
    store: EngineAdapter,
    dispatcher: Arc<Dispatcher>,
    runtime: Arc<Runtime>,
    client: Client,
}

async fn run(
    store: &EngineAdapter,
    activities: ActivityRegistry,
    orchestrations: OrchestrationRegistry,
) -> RunningStore {
    let settings = DispatcherSettings {
        activities: ["greet", "wait", "fail"].map(str::to_owned).into(),
        orchestrations: orchestrations
            .list_names()
            .into_iter()
            .map(|name| (name, vec![Version::new(1, 0, 0)]))
            .collect(),
        unregistered: Unregistered::Fail { after: Duration::from_millis(1) },
        max_attempts: 10,
        nondeterminism: Nondeterminism::Wait,
        capacity: Capacity::default(),
        node_name: None,
        returns_by_name: false,
    };
    store.store().begin_dispatching().await.unwrap();
    let dispatcher = store.dispatcher(settings);
    let options = RuntimeOptions { worker_concurrency: 8, orchestration_concurrency: 4, ..RuntimeOptions::default() };
    let provider = Arc::clone(&dispatcher) as Arc<dyn Provider>;
    let runtime = Runtime::start_with_options(provider, activities, orchestrations, options).await;
    RunningStore { store: store.clone(), dispatcher, runtime, client: Client::new(store.provider()) }
}

impl RunningStore {
    async fn start(&self, instance: &str, orchestration: &str, input: &str) {
        let request = request(instance, orchestration, input);
        assert_eq!(self.store.store().start(request, IfExists::Raise).await.unwrap(), StartOutcome::Started);
    }

    /// Waits for the end with watches, without polling.
    async fn end(&self, instance: &str) -> Result<String, String> {
        let mut watch = self.store.watch(instance);
        let waiting = async {
            loop {
                match self.client.get_orchestration_status(instance).await.unwrap() {
                    OrchestrationStatus::Completed { output, .. } => return Ok(output),
                    OrchestrationStatus::Failed { details, .. } => return Err(details.display_message()),
                    _ => watch.changed().await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap()
    }

    async fn stop(self) {
        self.dispatcher.stop();
        self.runtime.shutdown(Some(2000)).await;
    }
}

fn request(instance: &str, orchestration: &str, input: &str) -> StartRequest {
    StartRequest {
        instance: instance.to_owned(),
        orchestration: orchestration.to_owned(),
        input: input.to_owned(),
        version: None,
        due_ms: None,
    }
}

fn activities() -> ActivityRegistry {
    ActivityRegistry::builder()
        .register("greet", |_: ActivityContext, input: String| async move {
            let (_, input) = split_token(&input).unwrap();
            Ok(format!("hello {input}"))
        })
        .build()
}

fn orchestrations() -> OrchestrationRegistry {
    OrchestrationRegistry::builder()
        .register("greeting", |ctx: OrchestrationContext, input: String| async move {
            ctx.schedule_activity("greet", input).await
        })
        .register("chain", |ctx: OrchestrationContext, _: String| async move {
            for step in 0..20 {
                ctx.schedule_activity("greet", step.to_string()).await?;
            }
            Ok("done".to_owned())
        })
        .register("unknown activity", |ctx: OrchestrationContext, _: String| async move {
            match ctx.schedule_activity("unregistered", "").await {
                Ok(_) => Err("it ran".to_owned()),
                Err(error) => Ok(error),
            }
        })
        .register("unknown child", |ctx: OrchestrationContext, _: String| async move {
            match ctx.schedule_sub_orchestration("unregistered", "").await {
                Ok(_) => Err("it ran".to_owned()),
                Err(error) => Ok(error),
            }
        })
        .register("sleep", |ctx: OrchestrationContext, _: String| async move {
            ctx.schedule_timer(Duration::from_millis(300)).await;
            Ok("awake".to_owned())
        })
        .register("event", |ctx: OrchestrationContext, _: String| async move { Ok(ctx.schedule_wait("go").await) })
        .register("too long", |ctx: OrchestrationContext, _: String| async move {
            ctx.set_custom_status("x".repeat(1_000_000));
            Ok(String::new())
        })
        .register("parent", |ctx: OrchestrationContext, child: String| async move {
            match ctx.schedule_sub_orchestration(child, "").await {
                Ok(value) => Ok(value),
                Err(error) => Ok(format!("caught {error}")),
            }
        })
        .register("again", |ctx: OrchestrationContext, input: String| async move {
            let left: u32 = input.parse().unwrap();
            if left == 0 {
                return Ok("finished".to_owned());
            }
            ctx.continue_as_new((left - 1).to_string()).await
        })
        .register("waiting activity", |ctx: OrchestrationContext, _: String| async move {
            ctx.schedule_activity("wait", "").await
        })
        .build()
}

async fn memory() -> RunningStore {
    run(&in_memory().await, activities(), orchestrations()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orchestration_runs_in_memory_and_in_a_file() {
    let folder = TemporaryFolder::new();
    for store in [in_memory().await, open_file(&folder.join("a.db")).await.unwrap()] {
        let running = run(&store, activities(), orchestrations()).await;
        running.start("one", "greeting", "world").await;
        assert_eq!(running.end("one").await, Ok("hello world".to_owned()));
        running.start("two", "chain", "").await;
        assert_eq!(running.end("two").await, Ok("done".to_owned()));
        let metrics = running.dispatcher.metrics().await;
        assert_eq!((metrics.orch_starts, metrics.orch_completions, metrics.activity_success), (2, 2, 21));
        assert_eq!((metrics.active_orchestrations, metrics.provider_errors), (0, 0));
        let (created, updated) = store.instance_times("two").await.unwrap();
        assert!(created > 1_600_000_000_000 && updated >= created);
        let (started, ended) = store.execution_times("two", 1).await.unwrap();
        assert!(created <= started && started <= updated);
        assert_eq!(ended, Some(updated));
        running.stop().await;
        store.store().close().await;
        assert_eq!(store.instance_times("two").await, Err(StoreError::Closed));
    }
}

#[tokio::test]
async fn stores_in_memory_are_separate_and_a_file_is_one_store() {
    let (one, two) = (in_memory().await, in_memory().await);
    assert_eq!(one.store().start(request("x", "a", ""), IfExists::Raise).await, Ok(StartOutcome::Started));
    assert_eq!(two.store().start(request("x", "b", ""), IfExists::Raise).await, Ok(StartOutcome::Started));

    let folder = TemporaryFolder::new();
    let path = folder.join("x.db");
    let (one, two) = (open_file(&path).await.unwrap(), open_file(&path).await.unwrap());
    assert_eq!(one.store().start(request("x", "a", ""), IfExists::Raise).await, Ok(StartOutcome::Started));
    one.store().close().await;
    assert_eq!(two.store().start(request("x", "a", ""), IfExists::Attach).await, Ok(StartOutcome::Attached));
    two.store().close().await;
    let three = open_file(&path).await.unwrap();
    assert_eq!(three.store().start(request("x", "a", ""), IfExists::Attach).await, Ok(StartOutcome::Attached));
    three.store().close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_attaches_or_raises() {
    let store = in_memory().await;
    let exists = StoreError::InstanceAlreadyExists { instance: "x".to_owned(), orchestration: "greeting".to_owned() };
    for _ in 0..2 {
        let _ = store.store().start(request("x", "greeting", ""), IfExists::Attach).await.unwrap();
        assert_eq!(
            store.store().start(request("x", "greeting", ""), IfExists::Attach).await,
            Ok(StartOutcome::Attached)
        );
        assert_eq!(store.store().start(request("x", "greeting", ""), IfExists::Raise).await, Err(exists.clone()));
        assert_eq!(store.store().start(request("x", "other", ""), IfExists::Attach).await, Err(exists.clone()));
        // In the second round the instance has run already.
        let running = run(&store, activities(), orchestrations()).await;
        running.end("x").await.unwrap();
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_not_registered_fail_at_once_and_can_be_caught() {
    let running = memory().await;
    running.start("activity", "unknown activity", "").await;
    let error = running.end("activity").await.unwrap();
    assert!(
        error.starts_with(r#"{"type":"RegistrationError","message":"activity 'unregistered' is not registered"#),
        "{error}"
    );
    assert!(error.ends_with(r#""retryable":false}"#), "{error}");
    running.start("child", "unknown child", "").await;
    let error = running.end("child").await.unwrap();
    assert!(error.starts_with(r#"{"type":"RegistrationError","message":"orchestration 'unregistered'"#), "{error}");
    running.start("start", "unregistered", "").await;
    assert!(running.end("start").await.unwrap_err().contains("RegistrationError"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_and_messages_work_without_polling() {
    let running = memory().await;
    let began = Instant::now();
    running.start("sleep", "sleep", "").await;
    running.end("sleep").await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300));
    running.start("event", "event", "").await;
    let mut watch = running.store.watch("event");
    while running.client.read_execution_history("event", 1).await.map_or(0, |history| history.len()) < 2 {
        watch.changed().await;
    }
    running.client.raise_event("event", "go", "now").await.unwrap();
    assert_eq!(running.end("event").await, Ok("now".to_owned()));
    running.start("again", "again", "5").await;
    assert_eq!(running.end("again").await, Ok("finished".to_owned()));
    // The dispatcher counts a moment after the commit, which the client sees first.
    while running.dispatcher.metrics().await.orch_continue_as_new < 5 {
        tokio::task::yield_now().await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_concurrent_orchestrations_all_end() {
    let running = memory().await;
    for number in 0..50 {
        running.start(&number.to_string(), "parent", "sleep").await;
    }
    for number in 0..50 {
        assert_eq!(running.end(&number.to_string()).await, Ok("awake".to_owned()));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_breaks_a_limit_tells_its_parent() {
    let running = memory().await;
    running.start("parent", "parent", "too long").await;
    assert!(running.end("parent").await.unwrap().contains("exceeds limit"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_turn_have_one_time() {
    let running = memory().await;
    running.start("x", "greeting", "").await;
    running.end("x").await.unwrap();
    let history = running.client.read_execution_history("x", 1).await.unwrap();
    let times: Vec<_> = history.iter().map(|event| event.timestamp_ms).collect();
    assert_eq!(times[0], times[1]);
    assert!(times[1] <= times[2] && times[2] == times[3]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_with_a_mismatch_waits_and_continues_with_matching_code() {
    let store = in_memory().await;
    let running = run(&store, activities(), orchestrations()).await;
    running.start("x", "event", "").await;
    let mut watch = store.watch("x");
    while running.client.read_execution_history("x", 1).await.map_or(0, |history| history.len()) < 2 {
        watch.changed().await;
    }
    running.stop().await;

    let other = || {
        OrchestrationRegistry::builder()
            .register("event", |ctx: OrchestrationContext, _: String| async move {
                ctx.schedule_activity("greet", "").await
            })
            .build()
    };
    for registry in [other(), OrchestrationRegistry::builder().build()] {
        let running = run(&store, activities(), registry).await;
        running.client.raise_event("x", "go", "now").await.unwrap();
        while store.mismatch("x").await.is_none() {
            tokio::task::yield_now().await;
        }
        assert!(matches!(
            running.client.get_orchestration_status("x").await.unwrap(),
            OrchestrationStatus::Running { .. }
        ));
        running.stop().await;
    }
    let running = run(&store, activities(), orchestrations()).await;
    assert_eq!(running.end("x").await, Ok("now".to_owned()));
    assert_eq!(store.mismatch("x").await, None);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_without_code_can_be_cancelled() {
    let store = in_memory().await;
    let running = run(&store, activities(), orchestrations()).await;
    running.start("x", "event", "").await;
    let mut watch = store.watch("x");
    while running.client.read_execution_history("x", 1).await.map_or(0, |history| history.len()) < 2 {
        watch.changed().await;
    }
    running.stop().await;
    let running = run(&store, activities(), OrchestrationRegistry::builder().build()).await;
    running.client.cancel_instance("x", "enough").await.unwrap();
    assert_eq!(running.end("x").await, Err("canceled: enough".to_owned()));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_activity_learns_at_once_of_its_cancellation() {
    let store = in_memory().await;
    let started = Arc::new(tokio::sync::Notify::new());
    let called = Arc::new(AtomicBool::new(false));
    let dispatcher: Arc<std::sync::OnceLock<Arc<Dispatcher>>> = Arc::default();
    let registry = {
        let (started, called, dispatcher) = (Arc::clone(&started), Arc::clone(&called), Arc::clone(&dispatcher));
        ActivityRegistry::builder()
            .register("wait", move |_: ActivityContext, input: String| {
                let (started, called) = (Arc::clone(&started), Arc::clone(&called));
                let (token, _) = split_token(&input).unwrap();
                let running = dispatcher.wait().running_activity(token).unwrap();
                async move {
                    assert_eq!((running.name.as_str(), running.attempt, running.activity_id), ("wait", 1, 2));
                    let flag = Arc::clone(&called);
                    running.on_cancel(move || flag.store(true, Ordering::Relaxed));
                    started.notify_one();
                    running.cancelled().await;
                    Ok(String::new())
                }
            })
            .build()
    };
    let running = run(&store, registry, orchestrations()).await;
    let _ = dispatcher.set(Arc::clone(&running.dispatcher));
    running.start("x", "waiting activity", "").await;
    started.notified().await;
    running.client.cancel_instance("x", "enough").await.unwrap();
    assert_eq!(running.end("x").await, Err("canceled: enough".to_owned()));
    // The activity learns of its cancellation a moment after the commit, which the client sees first.
    while !called.load(Ordering::Relaxed) {
        tokio::task::yield_now().await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_ends_the_waiting_fetches() {
    let store = in_memory().await;
    let settings = DispatcherSettings {
        activities: [].into(),
        orchestrations: [].into(),
        unregistered: Unregistered::Fail { after: Duration::ZERO },
        max_attempts: 10,
        nondeterminism: Nondeterminism::Wait,
        capacity: Capacity::default(),
        node_name: None,
        returns_by_name: false,
    };
    let dispatcher = store.dispatcher(settings);
    let fetch = {
        let dispatcher = Arc::clone(&dispatcher);
        tokio::spawn(async move {
            let hour = Duration::from_secs(3600);
            dispatcher.fetch_orchestration_item(Duration::from_secs(5), hour, None).await
        })
    };
    dispatcher.stop();
    assert!(fetch.await.unwrap().unwrap().is_none());
    assert!(dispatcher.turn().is_none());
}

#[tokio::test]
async fn a_path_may_hold_any_character() {
    let folder = TemporaryFolder::new();
    for name in ["with space.db", "a?mode=memory", "100%25.db", "gr\u{fc}n#1.db", ":memory:"] {
        let path = folder.join(name);
        let store = open_file(&path).await.unwrap();
        store.store().start(request("x", "a", ""), IfExists::Raise).await.unwrap();
        store.store().close().await;
        assert!(path.is_file(), "{name}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_a_store_is_refused() {
    let folder = TemporaryFolder::new();
    let refused = async |path: &Path, text: &str| match open_file(path).await {
        Err(StoreError::Configuration(message)) => {
            assert!(message.contains(text) && message.contains(path.to_str().unwrap()), "{message}");
        }
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("opened {}", path.display()),
    };
    refused(&folder.join("nowhere/x.db"), "does not exist").await;
    refused(&folder.0, "is a directory").await;
    let text = folder.join("text.db");
    std::fs::write(&text, "not a database, but long enough to be taken for the first page of one".repeat(20)).unwrap();
    refused(&text, "is not a duroxide database").await;
    let foreign = folder.join("foreign.db");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE songs (title)").unwrap();
    refused(&foreign, "another application").await;
}

#[tokio::test]
async fn a_url_with_a_password_is_never_shown() {
    let refused = async |url: &str, schema: Option<&str>| {
        let target = PostgresTarget {
            connection: PostgresConnection::Url(url.to_owned()),
            schema: schema.map(str::to_owned),
            options: PostgresOptions::default(),
        };
        match open(StoreTarget::Postgres(target)).await {
            Err(error) => {
                assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
                error
            }
            Ok(_) => panic!("connected"),
        }
    };
    let error = refused("postgresql://user:secret@localhost:1/db", None).await;
    assert!(matches!(&error, StoreError::Unavailable(message) if message.contains("localhost:1")), "{error}");
    assert!(matches!(refused("mysql://user:secret@x/y", None).await, StoreError::Configuration(_)));
    let error = refused("postgresql://user:secret@localhost:1/db", Some("a\"; drop")).await;
    assert!(matches!(error, StoreError::Configuration(_)));
}

/// `DATABASE_URL=postgresql://… cargo test -- --ignored`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a PostgreSQL server at DATABASE_URL"]
async fn postgres_behaves_like_the_other_stores() {
    let target = PostgresTarget {
        connection: PostgresConnection::Url(std::env::var("DATABASE_URL").unwrap()),
        schema: Some(format!("Store_{}", uuid::Uuid::new_v4().simple())),
        options: PostgresOptions::default(),
    };
    let store = open(StoreTarget::Postgres(target)).await.unwrap();
    let running = run(&store, activities(), orchestrations()).await;
    running.start("two", "chain", "").await;
    assert_eq!(store.store().start(request("two", "chain", ""), IfExists::Attach).await, Ok(StartOutcome::Attached));
    assert_eq!(running.end("two").await, Ok("done".to_owned()));
    let error = store.store().start(request("two", "other", ""), IfExists::Attach).await.unwrap_err();
    assert!(matches!(error, StoreError::InstanceAlreadyExists { .. }));
    for name in ["unknown activity", "unknown child"] {
        running.start(name, name, "").await;
        assert!(running.end(name).await.unwrap().contains("RegistrationError"));
    }
    running.start("sleep", "parent", "sleep").await;
    assert_eq!(running.end("sleep").await, Ok("awake".to_owned()));
    let (created, updated) = store.instance_times("two").await.unwrap();
    assert!(created > 1_600_000_000_000 && updated >= created);
    running.client.delete_instance("two", false).await.unwrap();
    assert!(store.instance_times("two").await.is_err());
    running.stop().await;
    store.store().close().await;
    assert_eq!(store.store().start(request("three", "chain", ""), IfExists::Attach).await, Err(StoreError::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_over_a_store_that_stayed_open_sees_the_deletions_of_the_store() {
    let store = Store::open(StoreTarget::Memory).await.unwrap();
    drop(EngineAdapter::over(store.clone()));
    let adapter = EngineAdapter::over(store.clone());
    store.start(request("x", "greeting", ""), IfExists::Raise).await.unwrap();

    let mut watch = adapter.watch("x");
    store.database().backend.delete_instances_atomic(&["x".to_owned()], true).await.unwrap();

    tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.unwrap();
}
