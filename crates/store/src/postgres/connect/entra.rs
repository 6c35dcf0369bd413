//! Connects to Azure Database for PostgreSQL with tokens of Microsoft Entra ID instead of a password.

use std::sync::Arc;
use std::time::Duration;

use duroxide_pg::{EntraAuthOptions, ProviderConfig};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgPool};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::postgres::options::PostgresOptions;

#[derive(Clone)]
pub struct Entra {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    /// The scope of the tokens; `None` is Azure's public cloud.
    pub audience: Option<String>,
    /// The longest time between two renewals of the token; `None` is the default of `duroxide-pg`.
    pub refresh_interval: Option<Duration>,
}

impl Entra {
    pub fn describe(&self) -> String {
        let Self { host, port, database, user, .. } = self;
        format!("database '{database}' on {host}:{port} as '{user}'")
    }

    pub fn config(&self, connections: u32, acquire_timeout: Duration) -> ProviderConfig {
        let Self { host, port, database, user, .. } = self;
        let mut options = EntraAuthOptions::new().max_connections(connections).acquire_timeout(acquire_timeout);
        if let Some(audience) = &self.audience {
            options = options.audience(audience);
        }
        if let Some(interval) = self.refresh_interval {
            options = options.refresh_interval(interval);
        }
        ProviderConfig::entra(host, *port, database, user, options)
    }
}

/// Checks that the server can be reached. Tokens and pools have other timeouts, and their errors say less.
pub async fn check_reachable(entra: &Entra, limit: Duration) -> Result<(), String> {
    match timeout(limit, TcpStream::connect((entra.host.as_str(), entra.port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs_f64())),
    }
}

/// The connect options of the base provider, which hold the newest token, with our options that it does not know.
pub fn with_our_options(connect: &PgConnectOptions, options: &PostgresOptions) -> PgConnectOptions {
    let connect = connect.clone().disable_statement_logging();
    match &options.application_name {
        Some(name) => connect.application_name(name),
        None => connect,
    }
}

/// Copies the tokens that the base provider renews to our pool.
pub struct TokenFollower(AbortHandle);

impl TokenFollower {
    pub fn start(renewed: &PgPool, ours: &PgPool, options: &PostgresOptions) -> Self {
        // Short enough, since the base provider renews a token minutes before it expires.
        const CHECK_INTERVAL: Duration = Duration::from_secs(1);
        let (renewed, ours, options) = (renewed.clone(), ours.clone(), options.clone());
        let following = tokio::spawn(async move {
            let mut seen = None;
            while !ours.is_closed() {
                let current = renewed.connect_options();
                if !seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &current)) {
                    let fresh = with_our_options(&current, &options);
                    ours.set_connect_options(fresh.clone());
                    renewed.set_connect_options(fresh);
                    seen = Some(renewed.connect_options());
                }
                sleep(CHECK_INTERVAL).await;
            }
        });
        Self(following.abort_handle())
    }

    pub fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for TokenFollower {
    fn drop(&mut self) {
        self.stop();
    }
}
