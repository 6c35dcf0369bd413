//! TLS of clients: OpenSSL behind the part of the interface of the crate `native-tls` that the crates of this build use.
//!
//! The PostgreSQL client `sqlx` and the HTTP client `reqwest` name `native-tls` in their code. The published crate trusts
//! the authorities of the system even if the user names an authority. This crate differs in that:
//!
//! - Certificates given to [`TlsConnectorBuilder::add_root_certificate`] are trusted alone, as in libpq. A connection
//!   that has its own roots, or none to check, does not read those of the system.
//! - [`Certificate::from_pem`] takes all certificates of a file, as libpq does.
//! - A process reads the authorities of the system at most once a minute.
//! - The oldest version of TLS is 1.2, as in libpq.

#![forbid(unsafe_code)]

mod certificates;
mod connector;
mod error;
mod stream;
mod trust;

pub use certificates::{Certificate, Identity};
pub use connector::{Protocol, TlsAcceptor, TlsConnector, TlsConnectorBuilder};
pub use error::{Error, Result};
pub use stream::{HandshakeError, MidHandshakeTlsStream, TlsStream};
