"""Certificates of every kind that servers of PostgreSQL present, also of kinds that no authority should sign."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Made:
    """A certificate, its key, and the certificates between it and an authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    def pem(self) -> bytes:
        """The certificate alone, as a root file holds it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def context(self, folder: Path) -> ssl.SSLContext:
        """A server's context that presents the certificate with its chain."""
        file = folder / f"server-{self.certificate.serial_number}.pem"
        encoding, unencrypted = serialization.Encoding.PEM, serialization.NoEncryption()
        key = self.key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, unencrypted)
        file.write_bytes(key + self.pem() + b"".join(each.public_bytes(encoding) for each in self.chain))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def make(
    common_name: str,
    issuer: Made | None = None,
    *,
    is_authority: bool = False,
    names: tuple[str, ...] = (),
    begins: timedelta = -YEAR,
    ends: timedelta = YEAR,
    permitted: str | None = None,
    key: ec.EllipticCurvePrivateKey | None = None,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
) -> Made:
    """Make a certificate of version 3; one without an issuer signs itself.

    Args:
        common_name: Name of the owner.
        issuer: Who signs it.
        is_authority: Whether it may sign others.
        names: Host names and addresses.
        begins: Start of its validity, from now.
        ends: End of its validity, from now.
        permitted: The domain for which alone it may sign.
        key: Its key; default, a new one.
        usage: What a certificate that is no authority is for.
    """
    own = key or ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(timezone.utc)
    subject = named(common_name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if not is_authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([general_name(each) for each in names]), False)
    if permitted:
        domain = x509.DNSName(permitted)
        builder = builder.add_extension(x509.NameConstraints([domain], None), critical=True)
    certificate = builder.sign(issuer.key if issuer else own, hashes.SHA256())
    is_between = issuer is not None and issuer.certificate.issuer != issuer.certificate.subject
    return Made(certificate, own, (issuer.certificate, *issuer.chain) if issuer and is_between else ())


def make_version_1(common_name: str, issuer: Made | None = None, ends: timedelta = YEAR) -> Made:
    """Make a certificate without extensions, such as ``openssl x509 -req`` made up to OpenSSL 3.1."""
    own = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(timezone.utc)
    subject = named(common_name).public_bytes()
    signer = issuer.certificate.subject.public_bytes() if issuer else subject
    validity = element(0x30, date(now - YEAR) + date(now + ends))
    public = own.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    serial = (x509.random_serial_number() | 1 << 158).to_bytes(20, "big")  # DER allows no zeros at the front
    signed = element(0x30, element(0x02, serial) + ECDSA_WITH_SHA256 + signer + validity + subject + public)
    signature = (issuer.key if issuer else own).sign(signed, ec.ECDSA(hashes.SHA256()))
    der = element(0x30, signed + ECDSA_WITH_SHA256 + element(0x03, b"\0" + signature))
    return Made(x509.load_der_x509_certificate(der), own)


def named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def element(tag: int, content: bytes) -> bytes:
    """An element of DER."""
    length = len(content)
    size = length.to_bytes((length.bit_length() + 7) // 8, "big") if length > 127 else b""
    return bytes([tag, 0x80 | len(size) if size else length]) + size + content


def date(moment: datetime) -> bytes:
    return element(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())
