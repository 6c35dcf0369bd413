//! Certificates and keys, as files hold them.

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

use crate::error::{Error, Result};

/// The certificates of one file.
#[derive(Clone, Debug)]
pub struct Certificate(pub(crate) Vec<X509>);

impl Certificate {
    pub fn from_der(der: &[u8]) -> Result<Self> {
        Ok(Self(vec![X509::from_der(der)?]))
    }

    /// Takes all certificates of a PEM text, as libpq does.
    pub fn from_pem(pem: &[u8]) -> Result<Self> {
        Ok(Self(read_certificates(pem)?))
    }

    /// The first certificate.
    pub fn to_der(&self) -> Result<Vec<u8>> {
        Ok(self.0.first().map_or_else(|| Ok(Vec::new()), |first| first.to_der())?)
    }
}

fn read_certificates(pem: &[u8]) -> Result<Vec<X509>> {
    let read = X509::stack_from_pem(pem)?;
    if read.is_empty() {
        return Err(Error::Unusable("the file of certificates has no certificate"));
    }
    Ok(read)
}

/// The certificate of this client, the certificates between it and an authority, and its key.
#[derive(Clone)]
pub struct Identity {
    pub(crate) chain: Vec<X509>,
    pub(crate) key: PKey<Private>,
}

impl Identity {
    /// Takes an unencrypted key in any form that OpenSSL reads.
    pub fn from_pkcs8(pem: &[u8], key: &[u8]) -> Result<Self> {
        let chain = read_certificates(pem)?;
        // Without a callback, OpenSSL would ask for the password of an encrypted key on the terminal.
        let key = PKey::private_key_from_pem_callback(key, |_| Ok(0))
            .map_err(|_| Error::Unusable("the client's key cannot be read; it must be an unencrypted PEM file"))?;
        if !chain[0].public_key()?.public_eq(&key) {
            return Err(Error::Unusable("the client's key does not belong to its certificate"));
        }
        Ok(Self { chain, key })
    }

    pub fn from_pkcs12(_der: &[u8], _password: &str) -> Result<Self> {
        Err(Error::Unusable("PKCS#12 is not supported here; use PEM files"))
    }
}
