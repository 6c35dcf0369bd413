use std::time::Duration;

use duroxide::providers::{
    DispatcherCapabilityFilter, ExecutionMetadata, Provider as _, ProviderAdmin as _, PruneOptions, WorkItem,
};
use duroxide::{Event, EventKind};
use duroxide_pg::PostgresProvider;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::*;
use crate::error::StoreError;
use crate::postgres::connect::{Connections, PostgresConnection, PostgresTarget, open};
use crate::postgres::errors;
use crate::postgres::options::PostgresOptions;

const LONGEST_CLOSE: Duration = Duration::from_secs(10);
const LOCK_FILE: &str = include_str!("../../../../../Cargo.lock");

#[test]
fn texts_were_compared_with_the_versions_that_are_built() {
    for (package, version) in KNOWN_FROM {
        assert!(
            LOCK_FILE.contains(&format!("name = \"{package}\"\nversion = \"{version}\"\n")),
            "{package} is no longer {version}: compare its texts with this file, then write its version into KNOWN_FROM"
        );
    }
}

#[test]
fn texts_of_the_client_library_tell_what_its_variants_tell() {
    let refused = sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
    let reset = sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    for error in [refused, reset, sqlx::Error::PoolTimedOut, sqlx::Error::Protocol("cut".to_owned())] {
        let text = ProviderError::permanent("read", format!("Unexpected error: {error}"));
        assert_eq!(of_base_provider(text).kind, errors::kind(&error), "{error}");
    }
}

#[test]
fn id_of_an_instance_decides_nothing() {
    let failure = |message: &str| of_base_provider(ProviderError::permanent("prune_executions", message)).kind;
    let by_server = |message: &str| failure(&format!("{BY_SERVER}{message}"));

    assert_eq!(by_server("Instance is Running not found"), FailureKind::NotFound);
    assert_eq!(by_server("relation \"not found\" does not exist"), FailureKind::Refused);
}

fn url() -> String {
    std::env::var("DATABASE_URL")
        .expect("these tests need DATABASE_URL, the url of a PostgreSQL server; `make test-rust` starts one")
}

/// A schema of the server that is removed at the end.
struct Schema {
    name: String,
    connection: PgConnection,
}

impl Schema {
    async fn new() -> Self {
        let name = format!("third_party_{}", uuid::Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(&url()).await.unwrap();
        connection.execute(format!("SET search_path = {name}").as_str()).await.unwrap();
        Self { name, connection }
    }

    async fn open(&self) -> Result<Connections, StoreError> {
        self.open_with("connect_timeout=10").await
    }

    /// Opens the schema with another parameter of the url. The connections bear the name of the schema.
    async fn open_with(&self, parameter: &str) -> Result<Connections, StoreError> {
        let url = url();
        let mark = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{mark}application_name={}&{parameter}", self.name);
        let options = PostgresOptions { max_connections: 5, ..PostgresOptions::default() };
        let connection = PostgresConnection::Url(url);
        open(PostgresTarget { connection, schema: Some(self.name.clone()), options }).await
    }

    async fn execute(&mut self, statement: &str) {
        self.connection.execute(sqlx::raw_sql(statement)).await.unwrap();
    }

    /// Ends all connections of the store, and returns how many there were.
    async fn terminate(&mut self) -> u64 {
        let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
        let terminated = sqlx::query(terminate).bind(&self.name).execute(&mut self.connection).await;
        terminated.unwrap().rows_affected()
    }

    async fn remove(mut self) {
        let name = self.name.clone();
        self.execute(&format!("DROP SCHEMA {name} CASCADE")).await;
    }
}

/// Makes an instance that runs.
async fn run(provider: &PostgresProvider, instance: &str) {
    let start = WorkItem::StartOrchestration {
        instance: instance.to_owned(),
        orchestration: "order".to_owned(),
        input: String::new(),
        version: Some("1.0.0".to_owned()),
        parent_instance: None,
        parent_id: None,
        parent_execution_id: None,
        execution_id: 1,
    };
    provider.enqueue_for_orchestrator(start, None).await.unwrap();
    let lease = Duration::from_secs(30);
    let fetched = provider.fetch_orchestration_item(lease, lease, None::<&DispatcherCapabilityFilter>).await.unwrap();
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
    let metadata = ExecutionMetadata {
        orchestration_name: Some("order".to_owned()),
        orchestration_version: Some("1.0.0".to_owned()),
        ..ExecutionMetadata::default()
    };
    let delta = vec![Event::with_event_id(1, instance, 1, None, kind)];
    let token = fetched.unwrap().1;
    provider.ack_orchestration_item(&token, 1, delta, Vec::new(), Vec::new(), metadata, Vec::new()).await.unwrap();
}

fn kind_of<T>(outcome: Result<T, ProviderError>) -> FailureKind {
    let failure = of_base_provider(outcome.err().expect("it was to fail"));
    assert!(!failure.message.is_empty());
    failure.kind
}

#[tokio::test(flavor = "multi_thread")]
async fn base_provider_refuses_in_the_words_that_are_known() {
    let mut schema = Schema::new().await;
    let connections = schema.open().await.unwrap();
    let provider = connections.base_provider.provider();
    run(provider, "a").await;

    assert_eq!(kind_of(provider.get_instance_info("nobody").await), FailureKind::NotFound);
    assert_eq!(kind_of(provider.get_execution_info("nobody", 1).await), FailureKind::NotFound);
    assert_eq!(kind_of(provider.get_parent_id("nobody").await), FailureKind::NotFound);
    let options = PruneOptions { keep_last: Some(1), completed_before: None };
    assert_eq!(kind_of(provider.prune_executions("nobody", options).await), FailureKind::NotFound);
    let ids = ["a".to_owned()];
    assert_eq!(kind_of(provider.delete_instances_atomic(&ids, false).await), FailureKind::StillRunning);
    schema.execute("UPDATE history SET event_data = 'this is no event'").await;
    assert_eq!(kind_of(provider.read("a").await), FailureKind::Unreadable);
    assert_eq!(kind_of(provider.read_with_execution("a", 1).await), FailureKind::Unreadable);

    connections.close(LONGEST_CLOSE).await;
    schema.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn base_provider_reports_what_broke_a_statement_off_in_the_words_that_are_known() {
    let mut schema = Schema::new().await;
    let connections = schema.open().await.unwrap();
    let pool = connections.base_provider.provider().pool().clone();
    let limited = PgConnectOptions::clone(&pool.connect_options()).options([("statement_timeout", "200")]);
    pool.set_connect_options(limited);
    // The pool makes other connections, with the limit.
    while schema.terminate().await > 0 {
        tokio::task::yield_now().await;
    }
    let provider = connections.base_provider.provider();

    // In another session: within a transaction the server shows no new connections.
    let mut locking = PgConnection::connect(&url()).await.unwrap();
    let lock = format!("BEGIN; LOCK TABLE {}.history IN ACCESS EXCLUSIVE MODE", schema.name);
    locking.execute(sqlx::raw_sql(&lock)).await.unwrap();
    let limited = provider.read("a").await;
    assert!(limited.as_ref().is_err_and(|error| error.message.contains("statement timeout")), "{limited:?}");
    assert_eq!(kind_of(limited), FailureKind::InDoubt);
    let (reading, ()) = tokio::join!(provider.read("a"), async { while schema.terminate().await == 0 {} });
    assert_eq!(kind_of(reading), FailureKind::InDoubt);
    locking.close().await.unwrap();

    connections.close(LONGEST_CLOSE).await;
    schema.remove().await;
}

/// What the text says of an error of the server, in the words of `duroxide-pg`, is what its code says.
fn assert_told_by_the_text(error: &sqlx::Error, expected: FailureKind) {
    assert_eq!(errors::kind(error), expected, "{error}");
    let text = ProviderError::permanent("read", format!("Database error: {error}"));
    assert_eq!(of_base_provider(text).kind, expected, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_the_server_tell_what_its_codes_tell() {
    let mut schema = Schema::new().await;
    let name = schema.name.clone();
    schema.execute(&format!("CREATE SCHEMA {name}; CREATE TABLE t (n int); INSERT INTO t VALUES (0)")).await;
    let begin = format!("BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL search_path = {name}; SELECT n FROM t");

    let mut other = PgConnection::connect(&url()).await.unwrap();
    other.execute(sqlx::raw_sql(&begin)).await.unwrap();
    schema.execute("UPDATE t SET n = n + 1").await;
    let unserializable = other.execute("UPDATE t SET n = n + 1").await.unwrap_err();
    assert_told_by_the_text(&unserializable, FailureKind::NotApplied);

    schema.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD 'x' CONNECTION LIMIT 0")).await;
    let options: PgConnectOptions = url().parse().unwrap();
    let full = PgConnection::connect_with(&options.username(&name).password("x")).await.unwrap_err();
    schema.execute(&format!("DROP ROLE {name}")).await;
    assert_told_by_the_text(&full, FailureKind::NotApplied);

    let refused = schema.connection.execute("SELECT 1 / 0").await.unwrap_err();
    assert_told_by_the_text(&refused, FailureKind::Refused);

    schema.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_to_open_a_store_name_the_way_out() {
    let mut schema = Schema::new().await;
    schema.open().await.unwrap().close(LONGEST_CLOSE).await;
    let unavailable = |opened: Result<Connections, StoreError>| match opened {
        Err(StoreError::Unavailable(message)) => message,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was opened"),
    };
    let without_tls = unavailable(schema.open_with("sslmode=require").await);
    assert!(without_tls.contains("switch TLS on there"), "{without_tls}");
    schema.execute("INSERT INTO _duroxide_migrations (version, name) VALUES (9999, 'from the future')").await;
    let newer = unavailable(schema.open().await);
    assert!(newer.contains("install the version of duroxide here that the other nodes have"), "{newer}");

    schema.remove().await;
}
