//! What the engine's conformance suite runs on: a file, or memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use duroxide::provider_validation::ProviderFactory;
use duroxide::providers::Provider;
use parking_lot::Mutex;
use rusqlite::Connection;

use crate::forward::AsProvider;
use crate::policy::StorePolicy;
use crate::sqlite::file::schema;
use crate::sqlite::owner::{Owner, OwnerOptions};

/// Opens an empty store for each call, and remembers the last one to look into it.
pub struct SqliteFactory {
    policy: StorePolicy,
    folder: Option<PathBuf>,
    last: Mutex<Option<Arc<Owner>>>,
}

impl SqliteFactory {
    pub fn in_memory(policy: StorePolicy) -> Self {
        Self { policy, folder: None, last: Mutex::default() }
    }

    pub fn in_files(policy: StorePolicy) -> Self {
        let folder = std::env::temp_dir().join(format!("duroxide-conformance-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        Self { policy, folder: Some(folder), last: Mutex::default() }
    }

    fn open(&self) -> Arc<Owner> {
        let file = self.folder.as_ref().map(|folder| folder.join(format!("{}.db", uuid::Uuid::new_v4())));
        let connection = match &file {
            Some(file) => Connection::open(file).unwrap(),
            None => Connection::open_in_memory().unwrap(),
        };
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
        schema::create(&connection).unwrap();
        let description = "a store under test".to_owned();
        Owner::open(OwnerOptions {
            description,
            connection,
            file,
            lock: None,
            policy: self.policy,
            session_limits: Arc::default(),
        })
        .unwrap()
    }

    fn last(&self) -> Arc<Owner> {
        self.last.lock().clone().unwrap()
    }
}

impl Drop for SqliteFactory {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            std::fs::remove_dir_all(folder).ok();
        }
    }
}

#[async_trait]
impl ProviderFactory for SqliteFactory {
    async fn create_provider(&self) -> Arc<dyn Provider> {
        let owner = self.open();
        *self.last.lock() = Some(Arc::clone(&owner));
        Arc::new(AsProvider { store: owner, name: "a store under test" })
    }

    fn lock_timeout(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn corrupt_instance_history(&self, instance: &str) {
        self.last().corrupt_history(instance);
    }

    async fn get_max_attempt_count(&self, instance: &str) -> u32 {
        self.last().attempts(instance)
    }
}
