//! Stores as Python opens them.

use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::prelude::*;

use crate::boundary::errors::{ConfigurationError, Error};
use crate::boundary::options::choices;
use engine_adapter::EngineAdapter;
use store::error::StoreError;
use store::types::{Durability, StoreKind};
use store::{Entra, Migrate, PostgresConnection, PostgresOptions, PostgresTarget, Required, Store, StoreTarget};

use crate::boundary;

/// Read from the dictionary that `duroxide.options` makes of `PostgresOptions`, and of `PostgresEntraOptions`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct GivenOptions {
    max_connections: u32,
    acquire_timeout_ms: u64,
    connect_timeout_ms: u64,
    pgbouncer: Option<bool>,
    migrate: String,
    application_name: Option<String>,
}

choices! {
    enum OnMissingTables("migrate") {
        Apply = "apply",
        Verify = "verify",
    }
}

choices! {
    enum SessionAttributes("target_session_attrs") {
        Any = "any",
        ReadWrite = "read-write",
        Primary = "primary",
    }
}

impl TryFrom<GivenOptions> for PostgresOptions {
    type Error = PyErr;

    fn try_from(given: GivenOptions) -> PyResult<Self> {
        Ok(Self {
            max_connections: given.max_connections,
            acquire_timeout: Duration::from_millis(given.acquire_timeout_ms),
            connect_timeout: Duration::from_millis(given.connect_timeout_ms),
            pgbouncer: given.pgbouncer,
            migrate: match given.migrate.parse()? {
                OnMissingTables::Apply => Migrate::Apply,
                OnMissingTables::Verify => Migrate::Verify,
            },
            application_name: given.application_name,
        })
    }
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct GivenEntra {
    host: String,
    port: u16,
    database: String,
    user: String,
    audience: Option<String>,
    refresh_interval_ms: Option<u64>,
}

impl From<GivenEntra> for Entra {
    fn from(given: GivenEntra) -> Self {
        let GivenEntra { host, port, database, user, audience, refresh_interval_ms } = given;
        Self { host, port, database, user, audience, refresh_interval: refresh_interval_ms.map(Duration::from_millis) }
    }
}

/// One opened store. Clients and runtimes hold on to it.
#[pyclass(frozen, name = "Store", module = "duroxide._native")]
pub(crate) struct NativeStore {
    adapter: EngineAdapter,
    closed: AtomicBool,
}

impl NativeStore {
    async fn open(target: StoreTarget) -> Result<Self, Error> {
        Ok(Self { adapter: EngineAdapter::over(Store::open(target).await?), closed: AtomicBool::new(false) })
    }

    /// The store, unless `close` was called.
    pub(crate) fn adapter(&self) -> PyResult<EngineAdapter> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::from(StoreError::Closed).into());
        }
        Ok(self.adapter.clone())
    }
}

#[pymethods]
impl NativeStore {
    #[staticmethod]
    fn open_sqlite(py: Python<'_>, path: PathBuf, durability: &str) -> PyResult<Self> {
        let durability =
            [Durability::Full, Durability::Normal].into_iter().find(|known| known.name() == durability).ok_or_else(
                || ConfigurationError::new_err(format!("durability must be 'full' or 'normal', not '{durability}'")),
            )?;
        boundary::block_on(py, Self::open(StoreTarget::Sqlite { path, durability }))
    }

    #[staticmethod]
    fn sqlite_in_memory(py: Python<'_>) -> PyResult<Self> {
        boundary::block_on(py, Self::open(StoreTarget::Memory))
    }

    #[staticmethod]
    fn connect_postgres(
        py: Python<'_>,
        urls: Vec<String>,
        required: &str,
        schema: Option<String>,
        options: GivenOptions,
    ) -> PyResult<Self> {
        let required = match required.parse()? {
            SessionAttributes::Any => Required::Any,
            SessionAttributes::ReadWrite => Required::ReadWrite,
            SessionAttributes::Primary => Required::Primary,
        };
        let connection = PostgresConnection::Servers(urls, required);
        connect(py, PostgresTarget { connection, schema, options: options.try_into()? })
    }

    #[staticmethod]
    fn connect_postgres_entra(
        py: Python<'_>,
        place: GivenEntra,
        schema: Option<String>,
        options: GivenOptions,
    ) -> PyResult<Self> {
        connect(
            py,
            PostgresTarget {
                connection: PostgresConnection::Entra(place.into()),
                schema,
                options: options.try_into()?,
            },
        )
    }

    #[getter]
    fn kind(&self) -> &'static str {
        match self.adapter.store().kind() {
            StoreKind::Memory => "memory",
            StoreKind::Sqlite => "sqlite",
            StoreKind::Postgres => "postgres",
        }
    }

    #[getter]
    fn schema(&self) -> Option<String> {
        self.adapter.store().schema().map(str::to_owned)
    }

    #[getter]
    fn description(&self) -> String {
        self.adapter.store().describe()
    }

    fn back_up(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let adapter = self.adapter()?;
        boundary::block_on(py, async move { Ok(adapter.store().back_up(&path).await?) })
    }

    fn tune(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let adapter = self.adapter()?;
        boundary::block_on(py, async move { Ok(adapter.store().tune().await?) })
    }

    fn missing_rights(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let adapter = self.adapter()?;
        boundary::block_on(py, async move { Ok(adapter.store().missing_rights().await?) })
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        boundary::block_on(py, async {
            self.adapter.store().close().await;
            Ok(())
        })
    }
}

impl Drop for NativeStore {
    fn drop(&mut self) {
        // A database driver gives connections back on the threads of the runtime, and panics on any other: so a handle
        // that outlives this one closes the store there. In a forked child, which has no such threads, it is leaked.
        let adapter = ManuallyDrop::new(self.adapter.clone());
        let _ = boundary::spawn(async move {
            ManuallyDrop::into_inner(adapter).store().close().await;
        });
    }
}

fn connect(py: Python<'_>, target: PostgresTarget) -> PyResult<NativeStore> {
    boundary::block_on(py, NativeStore::open(StoreTarget::Postgres(target)))
}
