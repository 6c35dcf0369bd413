//! What the engine's conformance suite runs on: schemas of the server that `DATABASE_URL` names, each emptied before it is used
//! again, since making one takes long.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use duroxide::provider_validation::ProviderFactory;
use duroxide::providers::Provider;
use parking_lot::Mutex;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::forward::AsProvider;
use crate::policy::StorePolicy;
use crate::postgres::connect::{PostgresConnection, PostgresTarget, open};
use crate::postgres::options::PostgresOptions;
use crate::postgres::store::PostgresStore;

/// Few at a time: the suite expects answers within half a second, of a server that has two processors at worst.
static TURNS: Semaphore = Semaphore::const_new(3);
/// Schemas that no test uses.
static FREE: Mutex<Vec<String>> = Mutex::new(Vec::new());

const TABLES: &str = "instances, executions, history, orchestrator_queue, worker_queue, instance_locks, sessions, kv_store, \
                      kv_delta, python_waiting";

/// Gives every call an empty store.
pub struct PostgresFactory {
    /// While it lasts.
    _turn: SemaphorePermit<'static>,
    url: String,
    policy: StorePolicy,
    used: Mutex<Vec<String>>,
    last: Mutex<Option<Arc<PostgresStore>>>,
}

fn server() -> String {
    std::env::var("DATABASE_URL")
        .expect("these tests need DATABASE_URL, the url of a PostgreSQL server; `make test-rust` starts one")
}

impl PostgresFactory {
    pub async fn new(policy: StorePolicy) -> Self {
        let turn = TURNS.acquire().await.unwrap();
        Self { _turn: turn, url: server(), policy, used: Mutex::default(), last: Mutex::default() }
    }

    async fn open(&self) -> PostgresStore {
        let schema = FREE.lock().pop();
        let is_used = schema.is_some();
        let schema = schema.unwrap_or_else(|| format!("conformance_{}", uuid::Uuid::new_v4().simple()));
        self.used.lock().push(schema.clone());
        if is_used {
            let mut connection = self.connect(&schema).await;
            // A server may still execute the last statement of a store that is gone.
            while sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1")
                .bind(&schema)
                .execute(&mut connection)
                .await
                .unwrap()
                .rows_affected()
                > 0
            {
                tokio::task::yield_now().await;
            }
            connection.execute(format!("TRUNCATE {TABLES} RESTART IDENTITY").as_str()).await.unwrap();
        }
        self.open_node(schema).await
    }

    async fn open_node(&self, schema: String) -> PostgresStore {
        let mark = if self.url.contains('?') { '&' } else { '?' };
        let target = PostgresTarget {
            connection: PostgresConnection::Url(format!("{}{mark}application_name={schema}", self.url)),
            schema: Some(schema),
            options: PostgresOptions { max_connections: 5, ..PostgresOptions::default() },
        };
        PostgresStore::open(open(target).await.unwrap(), self.policy)
    }

    /// An empty store as a runtime has it.
    pub async fn create_store(&self) -> Arc<PostgresStore> {
        let store = Arc::new(self.open().await);
        // From now on the store prefetches.
        store.begin_dispatching().await;
        store
    }

    /// Another node on the newest store.
    pub async fn create_another_node(&self) -> Arc<dyn Provider> {
        let schema = self.used.lock().last().cloned().unwrap();
        let store = Arc::new(self.open_node(schema).await);
        store.begin_dispatching().await;
        Arc::new(AsProvider { store, name: "another node under test" })
    }

    async fn connect(&self, schema: &str) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        connection.execute(format!("SET search_path = {schema}").as_str()).await.unwrap();
        connection
    }

    async fn connect_last(&self) -> PgConnection {
        let schema = self.used.lock().last().cloned().unwrap();
        self.connect(&schema).await
    }
}

impl Drop for PostgresFactory {
    fn drop(&mut self) {
        FREE.lock().append(&mut self.used.lock());
    }
}

#[async_trait]
impl ProviderFactory for PostgresFactory {
    async fn create_provider(&self) -> Arc<dyn Provider> {
        let store = self.create_store().await;
        *self.last.lock() = Some(Arc::clone(&store));
        Arc::new(AsProvider { store, name: "a store under test" })
    }

    fn lock_timeout(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn corrupt_instance_history(&self, instance: &str) {
        let corrupt =
            sqlx::query("UPDATE history SET event_data = 'this is no event' WHERE instance_id = $1").bind(instance);
        corrupt.execute(&mut self.connect_last().await).await.unwrap();
        // The node would answer from memory: nothing but this changes a recorded history.
        if let Some(store) = &*self.last.lock() {
            store.core.histories.forget(instance);
        }
    }

    async fn get_max_attempt_count(&self, instance: &str) -> u32 {
        let count = sqlx::query_scalar::<_, Option<i32>>(
            "SELECT max(attempt_count) FROM orchestrator_queue WHERE instance_id = $1",
        );
        let count = count.bind(instance).fetch_one(&mut self.connect_last().await).await.unwrap();
        u32::try_from(count.unwrap_or(0)).unwrap()
    }
}
