//! The authorities that a connection trusts, as OpenSSL's context.

use std::env;
use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use openssl::ssl::{SslContext, SslMethod, SslMode};
use openssl::x509::X509;

use crate::error::Result;

/// How long a process uses what it has read of the system. To read takes much longer than a handshake. A process may run
/// for months, and the system's authorities change.
const KEPT: Duration = Duration::from_secs(60);

struct SystemTrust {
    context: SslContext,
    read: Instant,
    places: [Option<OsString>; 2],
}

static LAST_READ: Mutex<Option<SystemTrust>> = Mutex::new(None);

/// Trusts the authorities of the system, or those in the places that OpenSSL's variables name.
pub(crate) fn of_the_system() -> Result<SslContext> {
    let places = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(env::var_os);
    let mut last = LAST_READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(trust) = &*last
        && trust.places == places
        && trust.read.elapsed() < KEPT
    {
        return Ok(trust.context.clone());
    }
    let read = Instant::now();
    // A certificate that cannot be read is not trusted; the others are.
    let found = rustls_native_certs::load_native_certs().certs;
    let context = in_these(found.iter().filter_map(|each| X509::from_der(each).ok()))?;
    *last = Some(SystemTrust { context: context.clone(), read, places });
    Ok(context)
}

/// Trusts these certificates alone.
pub(crate) fn in_these(roots: impl IntoIterator<Item = X509>) -> Result<SslContext> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    // The caller repeats a write that would block with the same data at another address.
    context.set_mode(SslMode::AUTO_RETRY | SslMode::ENABLE_PARTIAL_WRITE | SslMode::ACCEPT_MOVING_WRITE_BUFFER);
    for root in roots {
        context.cert_store_mut().add_cert(root)?;
    }
    Ok(context.build())
}
