//! An encrypted stream over any other, which may say at any time that it would block.

use std::io::{self, Read, Write};

use openssl::ssl::{ErrorCode, HandshakeError as Unfinished, MidHandshakeSslStream, SslStream, SslVerifyMode};
use openssl::x509::X509VerifyResult;

use crate::certificates::Certificate;
use crate::error::{Error, Result};

#[derive(Debug)]
pub struct TlsStream<S>(SslStream<S>);

impl<S> TlsStream<S> {
    pub fn get_ref(&self) -> &S {
        self.0.get_ref()
    }

    pub fn get_mut(&mut self) -> &mut S {
        self.0.get_mut()
    }

    pub fn peer_certificate(&self) -> Result<Option<Certificate>> {
        Ok(self.0.ssl().peer_certificate().map(|own| Certificate(vec![own])))
    }

    pub fn negotiated_alpn(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.0.ssl().selected_alpn_protocol().map(<[u8]>::to_vec))
    }
}

impl<S: Read + Write> TlsStream<S> {
    /// Tells the server that nothing follows.
    pub fn shutdown(&mut self) -> io::Result<()> {
        match self.0.shutdown() {
            Err(error) if error.code() != ErrorCode::ZERO_RETURN => {
                Err(error.into_io_error().unwrap_or_else(io::Error::other))
            }
            _ => Ok(()),
        }
    }
}

impl<S: Read + Write> Read for TlsStream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<S: Read + Write> Write for TlsStream<S> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A handshake that waits for its socket.
#[derive(Debug)]
pub struct MidHandshakeTlsStream<S>(MidHandshakeSslStream<S>);

impl<S> MidHandshakeTlsStream<S> {
    pub fn get_ref(&self) -> &S {
        self.0.get_ref()
    }

    pub fn get_mut(&mut self) -> &mut S {
        self.0.get_mut()
    }
}

impl<S: Read + Write> MidHandshakeTlsStream<S> {
    /// Continues when the socket is ready.
    pub fn handshake(self) -> std::result::Result<TlsStream<S>, HandshakeError<S>> {
        shaken(self.0.handshake())
    }
}

/// Why a handshake is not done.
#[derive(Debug)]
pub enum HandshakeError<S> {
    Failure(Error),
    WouldBlock(MidHandshakeTlsStream<S>),
}

/// The outcome of OpenSSL's handshake.
pub(crate) fn shaken<S>(
    outcome: std::result::Result<SslStream<S>, Unfinished<S>>,
) -> std::result::Result<TlsStream<S>, HandshakeError<S>> {
    outcome.map(TlsStream).map_err(|unfinished| match unfinished {
        Unfinished::WouldBlock(waiting) => HandshakeError::WouldBlock(MidHandshakeTlsStream(waiting)),
        Unfinished::SetupFailure(error) => HandshakeError::Failure(Error::Setup(error)),
        Unfinished::Failure(failed) => HandshakeError::Failure(cause(failed)),
    })
}

fn cause<S>(failed: MidHandshakeSslStream<S>) -> Error {
    match failed.ssl().verify_result() {
        // OpenSSL judges the certificate also if it accepts each.
        reason if reason != X509VerifyResult::OK && failed.ssl().verify_mode() != SslVerifyMode::NONE => {
            Error::Refused(reason)
        }
        _ => Error::Handshake(failed.into_error()),
    }
}
