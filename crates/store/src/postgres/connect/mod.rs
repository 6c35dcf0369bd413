//! Connecting to PostgreSQL: one greeting, so that what is wrong is named at once; then the schema, the pool, and
//! `duroxide-pg`'s provider.

pub mod base_provider;
pub mod dedicated;
pub mod entra;
pub mod pgbouncer;

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use duroxide_pg::{MigrationPolicy, PostgresProvider, ProviderConfig};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgPool, Row as _};
use tokio::time::{Instant, sleep, timeout};

use crate::error::StoreError;
use crate::policy::StorePolicy;
use crate::postgres::connect::base_provider::BaseProvider;
use crate::postgres::connect::entra::{Entra, TokenFollower};
use crate::postgres::options::{Migrate, PostgresOptions};
use crate::postgres::schema;
use crate::postgres::store::PostgresStore;

/// Where a PostgreSQL store is, and how it is used.
#[derive(Clone)]
pub struct PostgresTarget {
    pub connection: PostgresConnection,
    /// `None` is `public`.
    pub schema: Option<String>,
    pub options: PostgresOptions,
}

/// How to reach it.
#[derive(Clone)]
pub enum PostgresConnection {
    /// `postgresql://user:password@host:port/database?options`
    Url(String),
    /// Azure Database for PostgreSQL with a token of Microsoft Entra ID.
    Entra(Entra),
}

/// An opened store: all that leads to its server.
pub struct Connections {
    /// `duroxide-pg`'s own provider, with few connections of its own.
    pub rare: BaseProvider,
    /// For the fast path. Its options for connecting are always fresh, so a connection beside it is made from them too.
    pub pool: PgPool,
    /// As the server has it, in lower case; letters, digits and underscores.
    pub schema: String,
    pub options: PostgresOptions,
    /// Whether a session is this store's own: LISTEN, SET and locks of sessions last longer than a transaction.
    pub session_features: bool,
    /// Which store it is, without secrets.
    pub description: String,
    follow: Option<TokenFollower>,
}

impl Connections {
    pub async fn close(&self) {
        if let Some(follow) = &self.follow {
            follow.stop();
        }
        end(&self.pool).await;
        end(self.rare.provider().pool()).await;
    }
}

/// Closes a pool. A connection that comes back at the last moment stays in it, and is found by closing it again.
async fn end(pool: &PgPool) {
    const ROUNDS: u32 = 200;
    const PAUSE: Duration = Duration::from_millis(5);
    for _ in 0..ROUNDS {
        pool.close().await;
        if pool.size() == 0 {
            return;
        }
        sleep(PAUSE).await;
    }
}

pub async fn connect(target: PostgresTarget) -> Result<PostgresStore, StoreError> {
    Ok(PostgresStore::open(open(target).await?, StorePolicy::SHIPPED))
}

pub async fn open(target: PostgresTarget) -> Result<Connections, StoreError> {
    let PostgresTarget { connection, schema, options } = target;
    let schema = schema.unwrap_or_else(|| "public".to_owned());
    check_schema(&schema)?;
    // The adapter writes the name unquoted, so the server folds it.
    let schema = schema.to_ascii_lowercase();
    match connection {
        PostgresConnection::Url(url) => open_url(&url, schema, options).await,
        PostgresConnection::Entra(entra) => open_entra(entra, schema, options).await,
    }
}

async fn open_url(url: &str, schema: String, options: PostgresOptions) -> Result<Connections, StoreError> {
    let (parsed, server) = read_url(url)?;
    let parsed = parsed.disable_statement_logging();
    let mut greeting = greet(&parsed, &server, options.connect_timeout).await?;
    check_not_reserved(&mut greeting, &schema, &server).await?;
    let pool = pool(&options, parsed.clone());
    let session_features = pgbouncer::session_features(&mut greeting, &pool, &options, &server).await?;
    // Done with; what matters is that it was let in.
    let _ = greeting.close().await;
    let mut config = ProviderConfig::url(url);
    config.migration_policy = policy(&options, session_features);
    config.schema_name = Some(schema.clone());
    let provider = provider(config, &schema, &server, &options, session_features).await?;
    provider.pool().set_connect_options(parsed);
    finish(provider, pool, None, schema, options, session_features, &server).await
}

async fn open_entra(entra: Entra, schema: String, options: PostgresOptions) -> Result<Connections, StoreError> {
    let server = entra.describe();
    entra::reach(&entra, options.connect_timeout).await.map_err(|fact| unreachable(&server, &fact))?;
    // Migrations hold a lock of the session, which a pooler of transactions does not have.
    let mut session_features = options.pgbouncer != Some(true);
    let mut config = entra.config(options.rare_connections(), options.acquire_timeout);
    config.migration_policy = policy(&options, session_features);
    config.schema_name = Some(schema.clone());
    let provider = provider(config, &schema, &server, &options, session_features).await?;
    let pool = pool(&options, entra::adapted(&provider.pool().connect_options(), &options));
    if session_features {
        let mut greeting = provider.pool().acquire().await.map_err(refused_by(&server))?;
        session_features = pgbouncer::session_features(&mut greeting, &pool, &options, &server).await?;
    }
    let follow = TokenFollower::start(provider.pool(), &pool, &options);
    finish(provider, pool, Some(follow), schema, options, session_features, &server).await
}

async fn provider(
    config: ProviderConfig,
    schema: &str,
    server: &str,
    options: &PostgresOptions,
    session_features: bool,
) -> Result<Arc<PostgresProvider>, StoreError> {
    let opened = PostgresProvider::new_with_config(config).await;
    opened.map(Arc::new).map_err(|error| {
        let text = format!("{error:#}");
        // What follows is a migration's statement over many lines, or advice for those who program the adapter.
        let fact = text.split("\nStatement:").next().and_then(|text| text.split(". ").next()).unwrap_or_default();
        if error.chain().any(|cause| cause.downcast_ref::<sqlx::Error>().is_some_and(is_about_reaching)) {
            return unreachable(server, fact);
        }
        let way_out = if text.contains("ahead of the code") {
            "install the version of duroxide here that the other nodes have".to_owned()
        } else {
            way_out(schema, options, session_features)
        };
        StoreError::Unavailable(format!("PostgreSQL {server}, schema '{schema}' cannot be used: {fact}; {way_out}"))
    })
}

fn is_about_reaching(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut)
}

async fn finish(
    provider: Arc<PostgresProvider>,
    pool: PgPool,
    follow: Option<TokenFollower>,
    schema: String,
    options: PostgresOptions,
    session_features: bool,
    server: &str,
) -> Result<Connections, StoreError> {
    let unusable = |fact: &str| {
        StoreError::Unavailable(format!(
            "PostgreSQL {server}, schema '{schema}' cannot be used: {fact}; {}",
            way_out(&schema, &options, session_features)
        ))
    };
    match options.migrate {
        Migrate::Apply => schema::apply(&pool, &schema).await.map_err(|error| unusable(&error.to_string()))?,
        Migrate::Verify => {
            let there = schema::verify(&pool, &schema).await.map_err(|error| unusable(&error.to_string()))?;
            if !there {
                return Err(unusable("the functions of this version are missing"));
            }
        }
    }
    let description = format!("PostgreSQL {server}, schema '{schema}'");
    let rare = BaseProvider::new(provider, options.rare_connections()).await;
    Ok(Connections { rare, pool, schema, options, session_features, description, follow })
}

/// What to do about a schema that is not as it should be.
fn way_out(schema: &str, options: &PostgresOptions, session_features: bool) -> String {
    let command = format!("`python -m duroxide migrate URL --schema {schema}`");
    match options.migrate {
        Migrate::Verify => format!("run {command} as a role that may create tables and functions in it"),
        Migrate::Apply if session_features => {
            format!("let a role that may create run {command}; then a role that only uses it can connect")
        }
        Migrate::Apply => format!("run {command} with the url of the server itself: PgBouncer cannot hold its lock"),
    }
}

fn policy(options: &PostgresOptions, session_features: bool) -> MigrationPolicy {
    match options.migrate {
        Migrate::Apply if session_features => MigrationPolicy::ApplyAll,
        Migrate::Apply | Migrate::Verify => MigrationPolicy::VerifyOnly,
    }
}

fn pool(options: &PostgresOptions, connect: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(options.pool_connections())
        .acquire_timeout(options.acquire_timeout)
        .connect_lazy_with(connect)
}

/// One connection, so that a server that is not there is named at once: a pool would try for half a minute, and then say that
/// it timed out. A server that is just starting, or full, is given the time.
async fn greet(options: &PgConnectOptions, server: &str, patience: Duration) -> Result<PgConnection, StoreError> {
    const PAUSE: Duration = Duration::from_millis(100);
    let end = Instant::now() + patience;
    loop {
        match timeout(end - Instant::now(), options.connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(sqlx::Error::Database(error)))
                if error.is_transient_in_connect_phase() && Instant::now() + PAUSE < end =>
            {
                sleep(PAUSE).await;
            }
            Ok(Err(error)) => return Err(unreachable(server, &explain(&error))),
            Err(_) => return Err(unreachable(server, &format!("no answer within {} s", patience.as_secs_f64()))),
        }
    }
}

pub fn unreachable(server: &str, fact: &str) -> StoreError {
    StoreError::Unavailable(format!("PostgreSQL {server} cannot be reached: {fact}; check the server and the url"))
}

pub fn refused_by(server: &str) -> impl Fn(sqlx::Error) -> StoreError + '_ {
    move |error| unreachable(server, &explain(&error))
}

/// The fact in an error of connecting, with its own way out where it has one.
fn explain(error: &sqlx::Error) -> String {
    let text = error.to_string();
    let way_out = if text.contains("unsupported startup parameter") {
        "this is PgBouncer, add ignore_startup_parameters = extra_float_digits to its settings"
    } else if text.contains("hostname mismatch") || text.contains("IP address mismatch") {
        "connect by the name that the server's certificate has, or say sslmode 'verify-ca'"
    } else if text.contains("certificate verify failed") {
        "give the certificates of its authority as ssl_root_cert"
    } else if text.contains("server does not support TLS") {
        "switch TLS on there, or say sslmode 'prefer'"
    } else {
        return text;
    };
    format!("{text}; {way_out}")
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

/// The adapter writes the name unquoted, which a reserved word cannot be.
async fn check_not_reserved(connection: &mut PgConnection, schema: &str, server: &str) -> Result<(), StoreError> {
    // Not a prepared statement: it is not known yet whether a pooler stands in between.
    let words = sqlx::raw_sql("SELECT word FROM pg_catalog.pg_get_keywords() WHERE catcode IN ('R', 'T')");
    let words = connection.fetch_all(words).await.map_err(refused_by(server))?;
    if words.iter().any(|row| row.try_get::<&str, _>(0).is_ok_and(|word| word == schema)) {
        return Err(StoreError::Configuration(format!(
            "schema '{schema}' is a reserved word of SQL; choose another name"
        )));
    }
    Ok(())
}

/// The url as the client library reads it, and what may be said of it: everything but the password.
fn read_url(url: &str) -> Result<(PgConnectOptions, String), StoreError> {
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
    let server = format!("database '{}' on {place} as '{user}'", options.get_database().unwrap_or(user));
    Ok((options, server))
}
