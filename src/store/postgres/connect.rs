//! Connecting to PostgreSQL by `duroxide-pg`.

use std::str::FromStr as _;
use std::time::Duration;

use duroxide_pg::{EntraAuthOptions, PostgresProvider, ProviderConfig};
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::store::PostgresStore;
use crate::store::backend::Backend;
use crate::store::error::StoreError;

/// Where a PostgreSQL store is.
#[derive(Clone)]
pub struct PostgresTarget {
    pub connection: PostgresConnection,
    /// `None` is `public`.
    pub schema: Option<String>,
}

/// How to reach it.
#[derive(Clone)]
pub enum PostgresConnection {
    /// `postgresql://user:password@host:port/database?options`
    Url(String),
    /// Azure Database for PostgreSQL with a token of Microsoft Entra ID.
    Entra {
        host: String,
        port: u16,
        database: String,
        user: String,
        audience: Option<String>,
        max_connections: Option<u32>,
        acquire_timeout: Option<Duration>,
        refresh_interval: Option<Duration>,
    },
}

pub(in crate::store) async fn connect(target: PostgresTarget) -> Result<Backend, StoreError> {
    if let Some(schema) = &target.schema {
        check_schema(schema)?;
    }
    let (mut config, server) = match target.connection {
        PostgresConnection::Url(url) => {
            let server = describe_url(&url)?;
            greet(&url, &server).await?;
            (ProviderConfig::url(url), server)
        }
        PostgresConnection::Entra {
            host,
            port,
            database,
            user,
            audience,
            max_connections,
            acquire_timeout,
            refresh_interval,
        } => {
            let mut options = EntraAuthOptions::new();
            if let Some(audience) = audience {
                options = options.audience(audience);
            }
            if let Some(most) = max_connections {
                options = options.max_connections(most);
            }
            if let Some(timeout) = acquire_timeout {
                options = options.acquire_timeout(timeout);
            }
            if let Some(interval) = refresh_interval {
                options = options.refresh_interval(interval);
            }
            let server = format!("database '{database}' on {host}:{port} as '{user}'");
            (ProviderConfig::entra(host, port, database, user, options), server)
        }
    };
    config.schema_name = target.schema.clone();
    let provider = PostgresProvider::new_with_config(config)
        .await
        .map_err(|error| StoreError::Unavailable(format!("PostgreSQL {server} cannot be used: {error:#}")))?;
    let schema = target.schema.unwrap_or_else(|| "public".to_owned());
    let description = format!("PostgreSQL {server}, schema '{schema}'");
    install(provider.pool(), &folded(&schema)).await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let store = PostgresStore::open(provider, &folded(&schema), false);
    Ok(Backend::postgres(description, store))
}

async fn install(pool: &sqlx::PgPool, schema: &str) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock(1685416561)").execute(&mut *transaction).await?;
    let functions = include_str!("functions.sql").replace("{schema}", &format!("\"{schema}\""));
    sqlx::raw_sql(&functions).execute(&mut *transaction).await?;
    transaction.commit().await
}

const GREETING: Duration = Duration::from_secs(10);

/// One connection, so that a server that is not there is named at once: the adapter's pool would try for half a minute, and
/// then say that it timed out.
async fn greet(url: &str, server: &str) -> Result<(), StoreError> {
    let unavailable = |fact: String| {
        StoreError::Unavailable(format!("PostgreSQL {server} cannot be reached: {fact}; check the server and the url"))
    };
    let greeting = tokio::time::timeout(GREETING, PgConnection::connect(url)).await;
    match greeting {
        Ok(Ok(connection)) => {
            // What matters is that it was let in.
            let _ = connection.close().await;
            Ok(())
        }
        Ok(Err(error)) => Err(unavailable(error.to_string())),
        Err(_) => Err(unavailable(format!("no answer within {} s", GREETING.as_secs()))),
    }
}

/// The adapter writes the name unquoted, so the server folds it to lower case; quoted, it must be folded by us.
fn folded(schema: &str) -> String {
    schema.to_ascii_lowercase()
}

fn check_schema(schema: &str) -> Result<(), StoreError> {
    let mut characters = schema.chars();
    let first = characters.next().is_some_and(|first| first == '_' || first.is_ascii_alphabetic());
    let others = characters.all(|other| other == '_' || other.is_ascii_alphanumeric());
    // The server cuts longer names silently, so two of them could be one schema.
    if first && others && schema.len() <= 63 {
        return Ok(());
    }
    Err(StoreError::Configuration(format!(
        "schema '{schema}' is not usable; use at most 63 letters, digits and underscores, beginning with a letter"
    )))
}

/// What may be said of a url: everything but the password.
fn describe_url(url: &str) -> Result<String, StoreError> {
    let unusable = || {
        StoreError::Configuration(
            "the url of the PostgreSQL store cannot be read; write it as postgresql://user:password@host:port/database, \
             with special characters of the password percent-encoded"
                .to_owned(),
        )
    };
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(unusable());
    }
    // The parser's own message may repeat a part of the url.
    let options = PgConnectOptions::from_str(url).map_err(|_| unusable())?;
    let place = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let user = options.get_username();
    Ok(format!("database '{}' on {place} as '{user}'", options.get_database().unwrap_or(user)))
}
