//! Azure Database for PostgreSQL: tokens of Microsoft Entra ID in place of a password.

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
    /// Scope of the tokens; `None` is Azure's public cloud.
    pub audience: Option<String>,
    /// Longest time between two renewals of the token; `None` is the adapter's own.
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

/// Whether anybody listens there: tokens and pools have a patience of their own, and say less.
pub async fn reach(entra: &Entra, patience: Duration) -> Result<(), String> {
    match timeout(patience, TcpStream::connect((entra.host.as_str(), entra.port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", patience.as_secs_f64())),
    }
}

/// The adapter's options for connecting, which hold the newest token, with what it knows nothing of.
pub fn adapted(connect: &PgConnectOptions, options: &PostgresOptions) -> PgConnectOptions {
    let adapted = connect.clone().disable_statement_logging();
    match &options.application_name {
        Some(name) => adapted.application_name(name),
        None => adapted,
    }
}

/// Hands the tokens that the adapter renews on to our own pool.
pub struct TokenFollower(AbortHandle);

impl TokenFollower {
    pub fn start(renewed: &PgPool, ours: &PgPool, options: &PostgresOptions) -> Self {
        // Tokens are renewed minutes before they end.
        const PACE: Duration = Duration::from_secs(1);
        let (renewed, ours, options) = (renewed.clone(), ours.clone(), options.clone());
        let following = tokio::spawn(async move {
            let mut seen = None;
            while !ours.is_closed() {
                let current = renewed.connect_options();
                if !seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &current)) {
                    let adapted = adapted(&current, &options);
                    ours.set_connect_options(adapted.clone());
                    renewed.set_connect_options(adapted);
                    seen = Some(renewed.connect_options());
                }
                sleep(PACE).await;
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
