//! Opens a store on PostgreSQL. The first connection finds out at once what is wrong; then follow the pool, the base
//! provider and our functions in the schema.
//!
//! `base_provider` limits the connections of `duroxide-pg`'s own provider, `dedicated` is a connection outside the
//! pool, `default_schema` finds the schema of a store that is opened without one, `entra` handles tokens of Microsoft
//! Entra ID, `pgbouncer` detects a pooler, and `session` makes the settings that the statements rely on. `hosts` chooses
//! among several servers, and `moves` ends the work on a server that the store has left. `errors` has the errors for a
//! server that cannot be reached.

pub mod base_provider;
pub mod dedicated;
pub mod default_schema;
pub mod entra;
pub mod errors;
pub mod hosts;
pub mod moves;
pub mod pgbouncer;
pub mod session;

use std::error::Error;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use duroxide_pg::{MigrationPolicy, PostgresProvider, ProviderConfig};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{Connection as _, Executor as _, PgPool, Row as _};
use tokio::time::{sleep, timeout};

use crate::error::StoreError;
use crate::postgres::connect::base_provider::BaseProvider;
use crate::postgres::connect::default_schema::DefaultSchema;
use crate::postgres::connect::entra::{Entra, TokenFollower};
use crate::postgres::connect::errors::{refused_by, unreachable};
use crate::postgres::connect::hosts::{Failover, Hosts, Required};
use crate::postgres::connect::moves::Moves;
use crate::postgres::notify::DigestKey;
use crate::postgres::options::{Migrate, PostgresOptions};
use crate::postgres::schema::application_tables::ApplicationTable;
use crate::postgres::schema::ownership::{ForeignObject, ForeignSchema};
use crate::postgres::{schema, third_party_texts};

/// Where a PostgreSQL store is, and with which options it is opened.
#[derive(Clone)]
pub struct PostgresTarget {
    pub connection: PostgresConnection,
    /// `None` is the schema that [`default_schema`] finds.
    pub schema: Option<String>,
    pub options: PostgresOptions,
}

/// How to reach the server.
#[derive(Clone)]
pub enum PostgresConnection {
    /// `postgresql://user:password@host:port/database?options`
    Url(String),
    /// Such a URL for each of several servers, and the demand on the one that the store uses.
    Servers(Vec<String>, Required),
    /// Azure Database for PostgreSQL with a token of Microsoft Entra ID.
    Entra(Entra),
}

/// The connections of an opened store, and the facts about its server.
pub struct Connections {
    /// The base provider, which has a few connections outside our pool.
    pub base_provider: BaseProvider,
    /// Our pool. Its connect options always hold the newest token, so dedicated connections are opened with them, too.
    pub pool: PgPool,
    /// The name as the server has it, in lower case: letters, digits and underscores.
    pub schema: String,
    pub options: PostgresOptions,
    /// Whether a session belongs to this store alone, so that LISTEN, SET and session locks outlast a transaction.
    pub session_features: bool,
    /// The name of the store for logs and errors, without secrets.
    pub description: String,
    /// The key of the digests in notifications; `None` if the role may not read it.
    pub digest_key: Option<DigestKey>,
    /// The servers, if the store may have to move among them. The task that moves it takes them.
    pub failover: Option<Failover>,
    pub moves: Moves,
    token_follower: Option<TokenFollower>,
}

impl Connections {
    /// Closes the connections, after the operations that use them. After `longest` it leaves the operations to their own
    /// ends: a server that is gone ends none of them.
    pub async fn close(&self, longest: Duration) {
        if let Some(follower) = &self.token_follower {
            follower.stop();
        }
        let closing = async {
            tokio::join!(close_pool(&self.pool), close_pool(self.base_provider.provider().pool()));
        };
        if timeout(longest, closing).await.is_err() {
            tracing::warn!(
                target: "duroxide::store",
                store = %self.description,
                "the store was closed while the server did not answer an operation"
            );
        }
    }
}

/// Closes a pool. A connection that is returned at the last moment stays in the pool, so the pool is closed again until
/// it is empty.
async fn close_pool(pool: &PgPool) {
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

pub async fn open(target: PostgresTarget) -> Result<Connections, StoreError> {
    let PostgresTarget { connection, schema, options } = target;
    if let Some(schema) = &schema {
        check_schema(schema)?;
    }
    // The base provider writes the name without quotes, so the server folds it to lower case.
    let schema = schema.map(|schema| schema.to_ascii_lowercase());
    match connection {
        PostgresConnection::Url(url) => open_urls(&[url], Required::Any, schema, options).await,
        PostgresConnection::Servers(urls, required) => open_urls(&urls, required, schema, options).await,
        PostgresConnection::Entra(entra) => open_entra(entra, schema, options).await,
    }
}

async fn open_urls(
    urls: &[String],
    required: Required,
    schema: Option<String>,
    options: PostgresOptions,
) -> Result<Connections, StoreError> {
    let hosts = Hosts::read(urls, required, options.connect_timeout)?;
    let (in_use, mut first) = hosts.connect().await?;
    let (server, host) = (hosts.description.clone(), hosts.at(in_use.place).clone());
    let parsed = host.options;
    let moves = if hosts.may_change() { Moves::possible() } else { Moves::default() };
    let schema = match schema {
        Some(schema) => schema,
        None => default_schema::find(&mut first, &server).await?.to_owned(),
    };
    check_database(&mut first, &schema, &server, options.migrate).await?;
    let session_features = pgbouncer::session_features(&mut first, &parsed, &options, &server).await?;
    let pool = pool(moves.pool_options(), &options, parsed.clone(), session_features);
    // The first connection is not needed any more, so a failure to close it does not matter.
    let _ = first.close().await;
    let config = |migration_policy| {
        let mut config = ProviderConfig::url(&host.url);
        config.migration_policy = migration_policy;
        config.schema_name = Some(schema.clone());
        config
    };
    let policy = policy(&options, session_features);
    // A migration takes an advisory lock, which each role of the database can hold. So a store that needs no migration
    // is opened without one.
    let provider =
        match provider(config(MigrationPolicy::VerifyOnly), &schema, &server, &options, session_features).await {
            Err(_) if matches!(policy, MigrationPolicy::ApplyAll) => {
                provider(config(policy), &schema, &server, &options, session_features).await?
            }
            opened => opened?,
        };
    provider.pool().set_connect_options(parsed);
    let mut connections = finish(provider, pool, None, schema, options, session_features, &server).await?;
    connections.failover = hosts.may_change().then_some(Failover { hosts, in_use });
    connections.moves = moves;
    Ok(connections)
}

async fn open_entra(entra: Entra, schema: Option<String>, options: PostgresOptions) -> Result<Connections, StoreError> {
    let server = entra.describe();
    entra::check_reachable(&entra, options.connect_timeout).await.map_err(|fact| unreachable(&server, &fact))?;
    let schema = match schema {
        Some(schema) => schema,
        None => find_schema_with_entra(&entra, &options, &server).await?.to_owned(),
    };
    // Migrations hold a session lock, which does not work behind a pooler that lends connections by the transaction.
    let mut session_features = options.pgbouncer != Some(true);
    let mut config = entra.config(options.base_provider_connections(), options.acquire_timeout);
    config.migration_policy = policy(&options, session_features);
    config.schema_name = Some(schema.clone());
    let provider = provider(config, &schema, &server, &options, session_features).await?;
    let connect = entra::with_our_options(&provider.pool().connect_options(), &options);
    let mut first = provider.pool().acquire().await.map_err(refused_by(&server))?;
    check_database(&mut first, &schema, &server, options.migrate).await?;
    if session_features {
        session_features = pgbouncer::session_features(&mut first, &connect, &options, &server).await?;
    }
    session::prepare(&mut first, session_features).await.map_err(refused_by(&server))?;
    drop(first);
    let pool = pool(PgPoolOptions::new(), &options, connect, session_features);
    let follower = TokenFollower::start(provider.pool(), &pool, &options);
    finish(provider, pool, Some(follower), schema, options, session_features, &server).await
}

/// The content of a schema, as far as the base provider reports it.
enum Held {
    /// A store that is up to date, opened.
    Store(PostgresProvider),
    /// A store that needs a migration, or that this version cannot use.
    Other,
    Nothing,
}

/// Finds the schema of a store that is opened without one. Only the base provider gets tokens, and it gives a connection
/// only where a store is up to date. Where it gives one, the catalog decides; otherwise its errors do.
async fn find_schema_with_entra(
    entra: &Entra,
    options: &PostgresOptions,
    server: &str,
) -> Result<&'static str, StoreError> {
    let own = held(entra, default_schema::OWN, options, server).await?;
    if let Held::Store(provider) = own {
        return find_schema_through(&provider, server).await;
    }
    match (held(entra, default_schema::EARLIER, options, server).await?, own) {
        (Held::Store(provider), _) => find_schema_through(&provider, server).await,
        (Held::Other, Held::Nothing) => default_schema::decide(&DefaultSchema::Earlier, server),
        (Held::Other, _) => Err(default_schema::ambiguous(server)),
        (Held::Nothing, _) => Ok(default_schema::OWN),
    }
}

async fn find_schema_through(provider: &PostgresProvider, server: &str) -> Result<&'static str, StoreError> {
    let mut connection = provider.pool().acquire().await.map_err(refused_by(server))?;
    let found = default_schema::find(&mut connection, server).await;
    drop(connection);
    close_pool(provider.pool()).await;
    found
}

async fn held(entra: &Entra, schema: &str, options: &PostgresOptions, server: &str) -> Result<Held, StoreError> {
    let mut config = entra.config(1, options.acquire_timeout);
    config.migration_policy = MigrationPolicy::VerifyOnly;
    config.schema_name = Some(schema.to_owned());
    match PostgresProvider::new_with_config(config).await {
        Ok(provider) => Ok(Held::Store(provider)),
        Err(error) if third_party_texts::has_no_migrations(&text(&*error)) => Ok(Held::Nothing),
        Err(error) if third_party_texts::is_about_schema(&text(&*error), schema) => Ok(Held::Other),
        // A store that this role may not read is not its own.
        Err(error) if is_denied(&*error) => Ok(Held::Nothing),
        Err(error) => Err(unusable_provider(&*error, schema, server, options, true)),
    }
}

fn is_denied(error: &(dyn Error + 'static)) -> bool {
    const INSUFFICIENT_PRIVILEGE: &str = "42501";
    let errors = causes(error).filter_map(|cause| cause.downcast_ref::<sqlx::Error>());
    errors
        .filter_map(sqlx::Error::as_database_error)
        .any(|error| error.code().as_deref() == Some(INSUFFICIENT_PRIVILEGE))
}

/// The error and its causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| error.source())
}

/// The error with its causes in one line.
fn text(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

async fn provider(
    config: ProviderConfig,
    schema: &str,
    server: &str,
    options: &PostgresOptions,
    session_features: bool,
) -> Result<Arc<PostgresProvider>, StoreError> {
    let opened = PostgresProvider::new_with_config(config).await;
    opened.map(Arc::new).map_err(|error| unusable_provider(&*error, schema, server, options, session_features))
}

/// The error for a base provider that could not be opened.
fn unusable_provider(
    error: &(dyn Error + 'static),
    schema: &str,
    server: &str,
    options: &PostgresOptions,
    session_features: bool,
) -> StoreError {
    let text = text(error);
    // The rest is a migration's statement over many lines, or advice for programmers of the base provider.
    let fact = text.split("\nStatement:").next().and_then(|text| text.split(". ").next()).unwrap_or_default();
    if causes(error).any(|cause| cause.downcast_ref::<sqlx::Error>().is_some_and(is_about_reaching)) {
        return unreachable(server, fact);
    }
    let remedy = if third_party_texts::is_ahead_of_the_code(&text) {
        "install the version of duroxide here that the other nodes have".to_owned()
    } else {
        remedy(schema, options, session_features)
    };
    StoreError::Unavailable(format!("PostgreSQL {server}, schema '{schema}' cannot be used: {fact}; {remedy}"))
}

fn is_about_reaching(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut)
}

async fn finish(
    provider: Arc<PostgresProvider>,
    pool: PgPool,
    token_follower: Option<TokenFollower>,
    schema: String,
    options: PostgresOptions,
    session_features: bool,
    server: &str,
) -> Result<Connections, StoreError> {
    let unusable = |fact: &str| {
        StoreError::Unavailable(format!(
            "PostgreSQL {server}, schema '{schema}' cannot be used: {fact}; {}",
            remedy(&schema, &options, session_features)
        ))
    };
    let renamed_from = schema::renamed_from(&pool, &schema).await.map_err(|error| unusable(&error.to_string()))?;
    if let Some(earlier) = renamed_from {
        return Err(StoreError::Unavailable(format!(
            "PostgreSQL {server}, schema '{schema}' cannot be used: it was renamed, and its functions work on schema \
             '{earlier}'; rename it back to '{earlier}', and open that"
        )));
    }
    match options.migrate {
        Migrate::Apply => schema::apply(&pool, &schema).await.map_err(|error| unusable(&error.to_string()))?,
        Migrate::Verify => {
            let lack = schema::verify(&pool, &schema).await.map_err(|error| unusable(&error.to_string()))?;
            if let Some(lack) = lack {
                return Err(unusable(lack));
            }
        }
    }
    // Another role may have created something since the first check, and a superuser may have replaced it.
    let mut transaction = session::begin(&pool).await.map_err(|error| unusable(&error.to_string()))?;
    check_owners(&mut transaction, &schema, server).await?;
    drop(transaction);
    let description = format!("PostgreSQL {server}, schema '{schema}'");
    let rights = schema::rights::missing(&pool, &schema).await.map_err(|error| unusable(&error.to_string()))?;
    if !rights.is_empty() {
        tracing::warn!(
            target: "duroxide::store",
            store = %description,
            "the role lacks rights, and work that needs them waits; let the owner run: {}",
            rights.join("; ")
        );
    }
    let base_provider = BaseProvider::new(provider, options.base_provider_connections()).await;
    // Without the right to read it, which the warning above names, the notifications name no instances.
    let digest_key = schema::digest_key(&pool, &schema).await.ok().map(DigestKey);
    let (failover, moves) = (None, Moves::default());
    Ok(Connections {
        base_provider,
        pool,
        schema,
        options,
        session_features,
        description,
        digest_key,
        failover,
        moves,
        token_follower,
    })
}

/// The advice for a schema that lacks tables or functions.
fn remedy(schema: &str, options: &PostgresOptions, session_features: bool) -> String {
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

fn pool(
    pool_options: PgPoolOptions,
    options: &PostgresOptions,
    connect: PgConnectOptions,
    session_features: bool,
) -> PgPool {
    pool_options
        .max_connections(options.pool_connections())
        .acquire_timeout(options.acquire_timeout)
        .after_connect(move |connection, _| Box::pin(session::prepare(connection, session_features)))
        .connect_lazy_with(connect)
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

/// Refuses a database or a schema that cannot hold a store.
async fn check_database(
    connection: &mut PgConnection,
    schema: &str,
    server: &str,
    migrate: Migrate,
) -> Result<(), StoreError> {
    // The checks run before the session has its settings.
    connection.execute(sqlx::raw_sql(session::BEGIN)).await.map_err(refused_by(server))?;
    check_not_reserved(connection, schema, server).await?;
    check_encoding(connection, server).await?;
    check_tables(connection, schema, server).await?;
    check_owners(connection, schema, server).await?;
    check_owner_of_schema(connection, schema, server, migrate).await?;
    connection.execute("COMMIT").await.map(|_| ()).map_err(refused_by(server))
}

/// Refuses a reserved word as the name of the schema, since the base provider writes the name without quotes.
async fn check_not_reserved(connection: &mut PgConnection, schema: &str, server: &str) -> Result<(), StoreError> {
    // Not a prepared statement, since a pooler that the store has not detected yet may not support these.
    let words = sqlx::raw_sql("SELECT word FROM pg_catalog.pg_get_keywords() WHERE catcode IN ('R', 'T')");
    let words = connection.fetch_all(words).await.map_err(refused_by(server))?;
    if words.iter().any(|row| row.try_get::<&str, _>(0).is_ok_and(|word| word == schema)) {
        return Err(StoreError::Configuration(format!(
            "schema '{schema}' is a reserved word of SQL; choose another name"
        )));
    }
    Ok(())
}

/// Refuses a database that cannot hold every text.
async fn check_encoding(connection: &mut PgConnection, server: &str) -> Result<(), StoreError> {
    // Not a prepared statement, since a pooler that the store has not detected yet may not support these.
    let row = connection.fetch_one(sqlx::raw_sql("SHOW server_encoding")).await.map_err(refused_by(server))?;
    let encoding: String = row.try_get(0).map_err(refused_by(server))?;
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(StoreError::Configuration(format!(
        "the encoding of PostgreSQL {server} is {encoding}, which cannot hold every text; use a database that was created \
         with ENCODING 'UTF8'"
    )))
}

/// Refuses a schema in which an application has a table under one of our names.
async fn check_tables(connection: &mut PgConnection, schema: &str, server: &str) -> Result<(), StoreError> {
    let found = schema::application_tables::find(connection, schema).await.map_err(refused_by(server))?;
    let Some(ApplicationTable { name, missing }) = found else { return Ok(()) };
    Err(StoreError::Configuration(format!(
        "the table '{schema}.{name}' of PostgreSQL {server} is not one of duroxide, since it has no column '{missing}'; give \
         the store a schema of its own, with PostgresProvider.connect_with_schema(url, 'durable') for example"
    )))
}

/// Refuses a schema in which another role has something under one of our names.
async fn check_owners(connection: &mut PgConnection, schema: &str, server: &str) -> Result<(), StoreError> {
    let found = schema::ownership::find_foreign(connection, schema).await.map_err(refused_by(server))?;
    let Some(ForeignObject { object, fact, remedy }) = found else { return Ok(()) };
    Err(StoreError::Configuration(format!(
        "the {object} of PostgreSQL {server} {fact}; {remedy}; or give the store a schema of its own, with \
         PostgresProvider.connect_with_schema(url, 'durable') for example"
    )))
}

/// Refuses to create a store in a schema of another role, which could replace each table and function of the store.
async fn check_owner_of_schema(
    connection: &mut PgConnection,
    schema: &str,
    server: &str,
    migrate: Migrate,
) -> Result<(), StoreError> {
    let foreign = schema::ownership::foreign_schema(connection, schema).await.map_err(refused_by(server))?;
    let Some(ForeignSchema { owner, has_store, has_own_tables }) = foreign else { return Ok(()) };
    let fact = format!(
        "the schema '{schema}' of PostgreSQL {server} belongs to role '{owner}', which can replace the tables and functions \
         in it"
    );
    if !has_store && matches!(migrate, Migrate::Apply) {
        return Err(StoreError::Configuration(format!(
            "{fact}; open the store as that role, run ALTER SCHEMA {schema} OWNER TO the role of the store, or choose another \
             schema"
        )));
    }
    if has_own_tables {
        tracing::warn!(
            target: "duroxide::store",
            "{fact}; run ALTER SCHEMA {schema} OWNER TO the role that owns the tables"
        );
    }
    Ok(())
}
