//! W1 to W4 with handlers in Rust: the same store and the same engine, without Python.
//!
//! `rust_handlers WORKLOAD SIZE PLACE ORCHESTRATIONS ACTIVITIES` plays one workload on an empty store and prints the
//! seconds it took as a JSON array, as the programs of `benchmarks/peers` do. PLACE is the file of the store, or
//! `memory`; the last two are the slots of the runtime. `rust_handlers commits 0 FOLDER` measures the limit of any
//! store on SQLite: how many commits of one row each a disk takes, one after the other. It is here because it must use
//! the same SQLite.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::providers::{Provider, TagFilter};
use duroxide::runtime::Runtime;
use duroxide::runtime::registry::ActivityRegistry;
use duroxide::{
    ActivityContext, Client, OrchestrationContext, OrchestrationRegistry, OrchestrationStatus, RuntimeOptions,
};
use engine_adapter::{
    Capacity, Dispatcher, DispatcherSettings, EngineAdapter, Nondeterminism, Unregistered, split_token,
};
use rusqlite::Connection;
use semver::Version;
use store::start::{IfExists, StartOutcome, StartRequest};
use store::types::Durability;
use store::{Store, StoreError, StoreTarget};
use tokio::task::JoinSet;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "rust_handlers burst|bulk|chain|fan|hello|commits SIZE PLACE [ORCHESTRATIONS ACTIVITIES]";
const ACTIVITY: &str = "next";
/// As many as W1 has threads.
const STARTERS: usize = 8;
/// As many as the Python package gives to the engine.
const THREADS: usize = 12;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let samples = match arguments[..] {
        ["commits", _, folder] => vec![commits_per_second(Path::new(folder))?],
        [workload, size, place, orchestrations, activities] => {
            let slots = (orchestrations.parse()?, activities.parse()?);
            let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
            threads.block_on(play(workload, size.parse()?, place, slots))?
        }
        _ => return Err(USAGE.into()),
    };
    #[expect(clippy::print_stdout, reason = "this is what the program is for")]
    {
        println!("{}", serde_json::to_string(&samples)?);
    }
    Ok(())
}

async fn play(workload: &str, size: usize, place: &str, slots: (usize, usize)) -> Outcome<Vec<f64>> {
    let target = if place == "memory" {
        StoreTarget::Memory
    } else {
        StoreTarget::Sqlite { path: place.into(), durability: Durability::Full }
    };
    let store = Store::open(target).await?;
    store.begin_dispatching().await?;
    let session = Session::start(&store, slots).await;
    let samples = match workload {
        "burst" => vec![session.burst(size, STARTERS).await?],
        // A call that starts many passes them to the store at once; so do as many tasks.
        "bulk" => vec![session.burst(size, size).await?],
        "chain" | "fan" => vec![session.one(workload, size).await?],
        "hello" => session.hellos(size).await?,
        _ => return Err(USAGE.into()),
    };
    session.stop().await;
    store.end_dispatching().await;
    store.close().await;
    Ok(samples)
}

struct Session {
    store: Store,
    adapter: EngineAdapter,
    dispatcher: Arc<Dispatcher>,
    runtime: Arc<Runtime>,
    client: Client,
}

impl Session {
    async fn start(store: &Store, (orchestration_concurrency, worker_concurrency): (usize, usize)) -> Self {
        let orchestrations = orchestrations();
        let settings = DispatcherSettings {
            activities: [ACTIVITY.to_owned()].into(),
            orchestrations: orchestrations
                .list_names()
                .into_iter()
                .map(|name| (name, vec![Version::new(1, 0, 0)]))
                .collect(),
            unregistered: Unregistered::Wait,
            max_attempts: 10,
            nondeterminism: Nondeterminism::Wait,
            capacity: Capacity {
                orchestration_slots: orchestration_concurrency,
                worker_slots: worker_concurrency,
                max_sessions: 10,
                tags: TagFilter::DefaultOnly,
            },
            node_name: None,
            returns_by_name: false,
        };
        let adapter = EngineAdapter::over(store.clone());
        let dispatcher = adapter.dispatcher(settings);
        let provider = Arc::clone(&dispatcher) as Arc<dyn Provider>;
        let options = RuntimeOptions { orchestration_concurrency, worker_concurrency, ..RuntimeOptions::default() };
        let runtime = Runtime::start_with_options(provider, activities(), orchestrations, options).await;
        let client = Client::new(adapter.provider());
        Self { store: store.clone(), adapter, dispatcher, runtime, client }
    }

    async fn stop(self) {
        self.dispatcher.stop();
        self.runtime.shutdown(Some(5_000)).await;
    }

    /// Seconds from the first start to the last end of this many orchestrations, started by this many tasks.
    async fn burst(&self, count: usize, starters: usize) -> Outcome<f64> {
        let began = Instant::now();
        let mut starts = JoinSet::new();
        for starter in 0..starters {
            let store = self.store.clone();
            starts.spawn(async move {
                for number in (starter..count).step_by(starters) {
                    start(&store, &format!("burst-{number}"), "one_activity", "1").await?;
                }
                Ok::<(), StoreError>(())
            });
        }
        while let Some(started) = starts.join_next().await {
            started??;
        }
        for number in 0..count {
            self.end(&format!("burst-{number}")).await?;
        }
        Ok(began.elapsed().as_secs_f64())
    }

    /// Seconds of one orchestration, from its start to its result.
    async fn one(&self, orchestration: &str, size: usize) -> Outcome<f64> {
        let began = Instant::now();
        start(&self.store, orchestration, orchestration, &size.to_string()).await?;
        self.end(orchestration).await?;
        Ok(began.elapsed().as_secs_f64())
    }

    async fn hellos(&self, count: usize) -> Outcome<Vec<f64>> {
        let mut samples = Vec::with_capacity(count);
        // The extra cost of the first call is not measured.
        for number in 0..=count {
            let began = Instant::now();
            let instance = format!("hello-{number}");
            start(&self.store, &instance, "one_activity", "1").await?;
            self.end(&instance).await?;
            samples.push(began.elapsed().as_secs_f64());
        }
        Ok(samples.split_off(1))
    }

    async fn end(&self, instance: &str) -> Outcome<String> {
        let mut watch = self.adapter.watch(instance);
        loop {
            match self.client.get_orchestration_status(instance).await? {
                OrchestrationStatus::Completed { output, .. } => return Ok(output),
                OrchestrationStatus::Failed { details, .. } => return Err(details.display_message().into()),
                _ => watch.changed().await,
            }
        }
    }
}

async fn start(store: &Store, instance: &str, orchestration: &str, input: &str) -> Result<StartOutcome, StoreError> {
    let request = StartRequest {
        instance: instance.to_owned(),
        orchestration: orchestration.to_owned(),
        input: input.to_owned(),
        version: None,
        due_ms: None,
    };
    store.start(request, IfExists::Raise).await
}

fn activities() -> ActivityRegistry {
    ActivityRegistry::builder()
        .register(ACTIVITY, |_: ActivityContext, delivered: String| async move {
            let (_, input) = split_token(&delivered).ok_or("not delivered by a dispatcher")?;
            Ok((number(input)? + 1).to_string())
        })
        .build()
}

fn orchestrations() -> OrchestrationRegistry {
    OrchestrationRegistry::builder()
        .register("one_activity", |context: OrchestrationContext, input: String| async move {
            context.schedule_activity(ACTIVITY, input).await
        })
        .register("chain", |context: OrchestrationContext, length: String| async move {
            let mut last = "0".to_owned();
            for _ in 0..number(&length)? {
                last = context.schedule_activity(ACTIVITY, last).await?;
            }
            if last == length { Ok(last) } else { Err(format!("{last} steps of {length}")) }
        })
        .register("fan", |context: OrchestrationContext, width: String| async move {
            let width = number(&width)?;
            let leaves: Vec<_> = (0..width).map(|leaf| context.schedule_activity(ACTIVITY, leaf.to_string())).collect();
            let mut sum = 0;
            // One after the other, as `ctx.all` does: the engine's join polls every leaf in every turn.
            for leaf in leaves {
                sum += number(&leaf.await?)?;
            }
            let expected = width * (width + 1) / 2;
            if sum == expected { Ok(sum.to_string()) } else { Err(format!("{sum} instead of {expected}")) }
        })
        .build()
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error| format!("'{text}' is not a number: {error}"))
}

/// How many commits of one row a second the disk of `folder` takes, each synced before the next begins.
fn commits_per_second(folder: &Path) -> Outcome<f64> {
    const GROWN_BYTES: usize = 16 << 20;
    const MEASURED: Duration = Duration::from_millis(200);
    let path = folder.join(format!("commits-{}.db", std::process::id()));
    let rate = {
        let connection = Connection::open(&path)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;
             CREATE TABLE grown (bytes BLOB); CREATE TABLE row (id INTEGER PRIMARY KEY, text TEXT)",
        )?;
        // A log that has reached its size is overwritten, and a sync then writes only its data.
        connection.execute("INSERT INTO grown VALUES (zeroblob(?))", [GROWN_BYTES])?;
        connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
        let mut insert =
            connection.prepare("INSERT INTO row (text) VALUES ('as long as a short event is, more or less')")?;
        let (began, mut count) = (Instant::now(), 0_u32);
        while began.elapsed() < MEASURED {
            insert.execute([])?;
            count += 1;
        }
        f64::from(count) / began.elapsed().as_secs_f64()
    };
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        // SQLite removed the log and its index when the connection was closed.
        std::fs::remove_file(name).or_else(|error| if suffix.is_empty() { Err(error) } else { Ok(()) })?;
    }
    Ok(rate)
}
