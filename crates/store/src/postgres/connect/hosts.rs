//! The servers of a store. The store uses the first that answers and that is what its URL requires.
//!
//! A URL of libpq may name several hosts, and say with `target_session_attrs` which of them is meant. The client library
//! takes one host only, so the choice is made here.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Executor as _, PgPool, Row as _};
use tokio::time::{Instant, sleep, timeout};

use crate::error::StoreError;
use crate::postgres::connect::errors::{explain, unreachable};

/// The demand on a server, by the names of `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Required {
    Any,
    ReadWrite,
    Primary,
}

/// One server.
#[derive(Clone)]
pub struct Host {
    pub url: String,
    pub options: PgConnectOptions,
    /// The host and the port, or the path of the socket.
    pub address: String,
}

/// The servers in the order in which they are tried. There is at least one.
#[derive(Clone)]
pub struct Hosts {
    servers: Vec<Host>,
    required: Required,
    /// The database, its servers and the user, for errors and logs.
    pub description: String,
    /// The longest time for one look at all servers.
    limit: Duration,
}

/// Why a server is not the one.
pub struct HostFailure {
    place: usize,
    /// `None` if the server did not answer in time.
    fact: Option<String>,
    /// Whether that may change in a moment.
    passes: bool,
}

/// A server that can be used.
#[derive(Clone, PartialEq, Eq)]
pub struct Chosen {
    pub place: usize,
    /// When its process started. Another server, and the same one after a restart, has another time. `None` if the
    /// store does not ask.
    pub started: Option<String>,
}

/// The outcome of a look at the servers.
pub struct Choice {
    /// The chosen server, and a connection to it.
    pub chosen: Option<(Chosen, PgConnection)>,
    /// The servers that were tried before it.
    pub failures: Vec<HostFailure>,
}

impl Hosts {
    pub fn read(urls: &[String], required: Required, limit: Duration) -> Result<Self, StoreError> {
        let hosts = urls.iter().map(|url| Host::read(url)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = hosts.first() else { return Err(unusable_url()) };
        let addresses: Vec<&str> = hosts.iter().map(|host| host.address.as_str()).collect();
        let user = first.options.get_username();
        let database = first.options.get_database().unwrap_or(user);
        let description = format!("database '{database}' on {} as '{user}'", addresses.join(", "));
        Ok(Self { servers: hosts, required, description, limit })
    }

    /// Whether the store may have to move to another server.
    pub fn may_change(&self) -> bool {
        self.servers.len() > 1 || self.required != Required::Any
    }

    pub fn at(&self, place: usize) -> &Host {
        &self.servers[place]
    }

    /// Connects to the first server that can be used. If one is just starting, full, or a replica that may be promoted,
    /// this tries again until the time is up.
    pub async fn connect(&self) -> Result<(Chosen, PgConnection), StoreError> {
        const PAUSE: Duration = Duration::from_millis(100);
        let end = Instant::now() + self.limit;
        let mut refusals = HashMap::new();
        loop {
            let Choice { chosen, mut failures } = self.choose(0, end - Instant::now()).await;
            if let Some(chosen) = chosen {
                return Ok(chosen);
            }
            for HostFailure { place, fact, passes } in &mut failures {
                match fact {
                    Some(fact) if *passes => drop(refusals.insert(*place, fact.clone())),
                    // Of a server that refused before, the refusal says more than the silence of the last moment.
                    None => *fact = refusals.get(place).cloned(),
                    Some(_) => {}
                }
            }
            if !failures.iter().any(|failure| failure.passes) || Instant::now() + PAUSE >= end {
                return Err(unreachable(&self.description, &self.facts(&failures)));
            }
            sleep(PAUSE).await;
        }
    }

    /// Looks for a server that can be used: first at the place that is in use, then at the others in their order.
    pub async fn look(&self, in_use: usize) -> Choice {
        self.choose(in_use, self.limit).await
    }

    async fn choose(&self, first: usize, limit: Duration) -> Choice {
        let share = self.share_of(limit);
        let others = (0..self.servers.len()).filter(|place| *place != first);
        let mut failures = Vec::new();
        for place in std::iter::once(first).chain(others) {
            match self.try_host(place, share).await {
                Ok(chosen) => return Choice { chosen: Some(chosen), failures },
                Err(failure) => failures.push(failure),
            }
        }
        Choice { chosen: None, failures }
    }

    async fn try_host(&self, place: usize, share: Duration) -> Result<(Chosen, PgConnection), HostFailure> {
        let connecting = async {
            let mut connection = self.servers[place].options.connect().await?;
            let started = match self.required {
                Required::Any => Ok(None),
                Required::ReadWrite | Required::Primary => self.check(&mut connection).await?.map(Some),
            };
            Ok((connection, started))
        };
        let (fact, passes) = match timeout(share, connecting).await {
            Ok(Ok((connection, Ok(started)))) => return Ok((Chosen { place, started }, connection)),
            Ok(Ok((_, Err(fault)))) => (Some(fault.to_owned()), true),
            Ok(Err(error)) => (Some(explain(&error)), is_passing(&error)),
            Err(_) => (None, false),
        };
        Err(HostFailure { place, fact, passes })
    }

    /// The time that each server has.
    fn share_of(&self, limit: Duration) -> Duration {
        limit / u32::try_from(self.servers.len()).unwrap_or(u32::MAX)
    }

    /// When the server started, or else why it is not what is required.
    async fn check(&self, connection: &mut PgConnection) -> Result<Result<String, &'static str>, sqlx::Error> {
        // Not a prepared statement, since a pooler that the store has not detected yet may not support these.
        let asked = sqlx::raw_sql(
            "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only'), \
             pg_catalog.pg_postmaster_start_time()::pg_catalog.text",
        );
        let answer = connection.fetch_one(asked).await?;
        let is_replica: bool = answer.try_get(0)?;
        let is_read_only = answer.try_get::<&str, _>(1)? == "on";
        Ok(if is_replica {
            Err("it is a replica, and the store writes")
        } else if is_read_only && self.required == Required::ReadWrite {
            Err("its transactions are read-only, and the store writes")
        } else {
            Ok(answer.try_get(2)?)
        })
    }

    /// What was wrong with a server.
    pub fn fact_of(&self, failure: &HostFailure) -> String {
        let silence = || format!("no answer within {} s", self.share_of(self.limit).as_secs_f64());
        failure.fact.clone().unwrap_or_else(silence)
    }

    /// The faults of the servers, each behind its address.
    fn facts(&self, failures: &[HostFailure]) -> String {
        if let ([failure], [_]) = (failures, self.servers.as_slice()) {
            return self.fact_of(failure);
        }
        let mut facts = String::new();
        for failure in failures {
            let separator = if facts.is_empty() { "" } else { "; " };
            let _ = write!(facts, "{separator}{}: {}", self.servers[failure.place].address, self.fact_of(failure));
        }
        facts
    }
}

impl Host {
    fn read(url: &str) -> Result<Self, StoreError> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(unusable_url());
        }
        // The message of the parser is dropped, since it may repeat a part of the url.
        let options = PgConnectOptions::from_str(url).map_err(|_| unusable_url())?.disable_statement_logging();
        let (host, port) = (options.get_host(), options.get_port());
        let address = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
            None => format!("{host}:{port}"),
        };
        Ok(Self { url: url.to_owned(), options, address })
    }
}

fn unusable_url() -> StoreError {
    StoreError::Configuration(
        "the url of the PostgreSQL store cannot be read; write it as \
         postgresql://user:password@host:port/database, with special characters of the password percent-encoded"
            .to_owned(),
    )
}

/// Whether the server is just starting, or full.
fn is_passing(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.is_transient_in_connect_phase())
}

/// The servers of an opened store, for the task that moves it.
pub struct Failover {
    pub hosts: Hosts,
    /// The server in use.
    pub in_use: Chosen,
}

/// Closes the connections of a pool that are not in use.
pub fn close_idle(pool: &PgPool) {
    // The pool may open connections in their place at once.
    for _ in 0..pool.size() {
        let Some(connection) = pool.try_acquire() else { return };
        // A goodbye to a server that does not answer would take long.
        drop(connection.detach());
    }
}
