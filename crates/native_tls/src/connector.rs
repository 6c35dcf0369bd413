//! The demands of a client, and the connection to a server that fulfils them.

use std::io::{Read, Write};
use std::net::IpAddr;

use openssl::ssl::{Ssl, SslContext, SslRef, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use openssl::x509::verify::X509CheckFlags;

use crate::certificates::{Certificate, Identity};
use crate::error::{Error, Result};
use crate::stream::{HandshakeError, TlsStream, shaken};
use crate::trust;

#[derive(Clone, Copy)]
pub enum Protocol {
    Tlsv10,
    Tlsv11,
    Tlsv12,
    Tlsv13,
}

impl Protocol {
    fn version(self) -> SslVersion {
        match self {
            Self::Tlsv10 => SslVersion::TLS1,
            Self::Tlsv11 => SslVersion::TLS1_1,
            Self::Tlsv12 => SslVersion::TLS1_2,
            Self::Tlsv13 => SslVersion::TLS1_3,
        }
    }
}

/// What each connection demands.
#[derive(Clone)]
struct Demands {
    identity: Option<Identity>,
    least: Option<Protocol>,
    most: Option<Protocol>,
    checks_certificate: bool,
    checks_name: bool,
    sends_name: bool,
    /// As ALPN writes them: each with its length before it.
    protocols: Vec<u8>,
}

impl Demands {
    fn apply(&self, ssl: &mut SslRef, host: &str) -> Result<()> {
        ssl.set_min_proto_version(self.least.map(Protocol::version))?;
        ssl.set_max_proto_version(self.most.map(Protocol::version))?;
        if !self.protocols.is_empty() {
            ssl.set_alpn_protos(&self.protocols)?;
        }
        if let Some(Identity { chain, key }) = &self.identity {
            ssl.set_certificate(&chain[0])?;
            ssl.set_private_key(key)?;
            for between in &chain[1..] {
                ssl.add_chain_cert(between.clone())?;
            }
        }
        let address = host.parse::<IpAddr>().ok();
        if self.sends_name && address.is_none() && !host.is_empty() {
            ssl.set_hostname(host)?;
        }
        ssl.set_verify(if self.checks_certificate { SslVerifyMode::PEER } else { SslVerifyMode::NONE });
        if self.checks_certificate && self.checks_name {
            require_name(ssl, host, address)?;
        }
        Ok(())
    }
}

fn require_name(ssl: &mut SslRef, host: &str, address: Option<IpAddr>) -> Result<()> {
    let parameters = ssl.param_mut();
    parameters.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
    match address {
        Some(address) => parameters.set_ip(address)?,
        // OpenSSL would check no name at all, or accept each name of a domain.
        None if host.is_empty() || host.starts_with('.') => {
            return Err(Error::Unusable("the server has no name that a certificate can have"));
        }
        None => parameters.set_host(host)?,
    }
    Ok(())
}

/// Collects what a client demands.
pub struct TlsConnectorBuilder {
    demands: Demands,
    roots: Vec<X509>,
    trusts_system: bool,
}

impl TlsConnectorBuilder {
    pub fn identity(&mut self, identity: Identity) -> &mut Self {
        self.demands.identity = Some(identity);
        self
    }

    pub fn min_protocol_version(&mut self, protocol: Option<Protocol>) -> &mut Self {
        self.demands.least = protocol;
        self
    }

    pub fn max_protocol_version(&mut self, protocol: Option<Protocol>) -> &mut Self {
        self.demands.most = protocol;
        self
    }

    /// Trusts these certificates, and no longer those of the system.
    pub fn add_root_certificate(&mut self, certificate: Certificate) -> &mut Self {
        self.roots.extend(certificate.0);
        self.disable_built_in_roots(true)
    }

    pub fn disable_built_in_roots(&mut self, disable: bool) -> &mut Self {
        self.trusts_system = !disable && self.roots.is_empty();
        self
    }

    /// Accepts every certificate whose key the server has.
    pub fn danger_accept_invalid_certs(&mut self, accept: bool) -> &mut Self {
        self.demands.checks_certificate = !accept;
        self
    }

    /// Accepts a certificate of a trusted authority for any host.
    pub fn danger_accept_invalid_hostnames(&mut self, accept: bool) -> &mut Self {
        self.demands.checks_name = !accept;
        self
    }

    pub fn use_sni(&mut self, use_sni: bool) -> &mut Self {
        self.demands.sends_name = use_sni;
        self
    }

    pub fn request_alpns(&mut self, protocols: &[&str]) -> &mut Self {
        let written = protocols.iter().flat_map(|each| [&[each.len() as u8], each.as_bytes()].concat());
        self.demands.protocols = written.collect();
        self
    }

    pub fn build(&self) -> Result<TlsConnector> {
        let context = if self.demands.checks_certificate && self.trusts_system {
            trust::of_the_system()?
        } else {
            trust::in_these(self.roots.iter().cloned())?
        };
        Ok(TlsConnector { context, demands: self.demands.clone() })
    }
}

/// Connects to servers.
#[derive(Clone)]
pub struct TlsConnector {
    context: SslContext,
    demands: Demands,
}

impl TlsConnector {
    pub fn new() -> Result<Self> {
        Self::builder().build()
    }

    pub fn builder() -> TlsConnectorBuilder {
        let demands = Demands {
            identity: None,
            least: Some(Protocol::Tlsv12),
            most: None,
            checks_certificate: true,
            checks_name: true,
            sends_name: true,
            protocols: Vec::new(),
        };
        TlsConnectorBuilder { demands, roots: Vec::new(), trusts_system: true }
    }

    /// Shakes hands over a connected stream.
    pub fn connect<S: Read + Write>(
        &self,
        host: &str,
        stream: S,
    ) -> std::result::Result<TlsStream<S>, HandshakeError<S>> {
        shaken(self.session(host).map_err(HandshakeError::Failure)?.connect(stream))
    }

    fn session(&self, host: &str) -> Result<Ssl> {
        let mut ssl = Ssl::new(&self.context)?;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        self.demands.apply(&mut ssl, bare)?;
        Ok(ssl)
    }
}

/// Accepts clients in the interface of `native-tls`. This crate has none.
#[derive(Clone)]
pub enum TlsAcceptor {}

impl TlsAcceptor {
    pub fn accept<S: Read + Write>(&self, _stream: S) -> std::result::Result<TlsStream<S>, HandshakeError<S>> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn a_host_without_a_name_is_refused_if_its_name_counts() {
        for host in ["", "[]", ".example"] {
            let refused = TlsConnector::new().unwrap().connect(host, Cursor::new(Vec::new())).unwrap_err();
            assert!(matches!(refused, HandshakeError::Failure(Error::Unusable(_))), "{refused:?}");
        }
    }
}
