"""TLS: encrypted does not mean verified, and a server without the required proof is refused with the reason."""

from __future__ import annotations

import socket
import ssl
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from duroxide import (
    Client,
    ConfigurationError,
    OrchestrationContext,
    PostgresOptions,
    PostgresProvider,
    ProviderError,
    Runtime,
    orchestration,
)
from postgres.certificate_maker import make
from postgres.conftest import elsewhere
from postgres.tls_proxy import Certificates, TlsProxy
from support.fake_servers import impostor_without_tls

PEM = serialization.Encoding.PEM
FORMS = [
    pytest.param(serialization.PrivateFormat.PKCS8, id="PKCS#8"),
    pytest.param(serialization.PrivateFormat.TraditionalOpenSSL, id="traditional"),
]
IMPATIENT = PostgresOptions(connect_timeout=timedelta(milliseconds=500))


def connect(url: str, schema: str, options: PostgresOptions | None = None) -> None:
    """Connect, and use the connection."""
    with PostgresProvider.connect_with_schema(url, schema, options=options) as provider:
        assert Client(provider).list_all_instances() == []


def refusal(url: str, schema: str, options: PostgresOptions | None = None) -> str:
    with pytest.raises(ProviderError) as refused:
        PostgresProvider.connect_with_schema(url, schema, options=options)
    password = urlsplit(url).password
    assert password is not None
    assert password not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("mode", ["prefer", "require"])
def test_an_unknown_certificate_still_encrypts(
    mode: str, postgres_url: str, postgres_schema: str, tls_proxy: TlsProxy
) -> None:
    connect(elsewhere(postgres_url, tls_proxy.port, f"sslmode={mode}"), postgres_schema)
    assert tls_proxy.encrypted > 0


def test_a_server_that_requires_tls_refuses_a_client_without_it(
    postgres_url: str, postgres_schema: str, tls_proxy: TlsProxy
) -> None:
    refusal(elsewhere(postgres_url, tls_proxy.port), postgres_schema, PostgresOptions(sslmode="disable"))
    assert tls_proxy.encrypted == 0


def test_a_server_without_tls_is_refused_if_tls_is_required(postgres_url: str, postgres_schema: str) -> None:
    message = refusal(postgres_url, postgres_schema, PostgresOptions(sslmode="require"))
    assert "server does not support TLS" in message


def test_a_server_without_tls_on_another_machine_gets_no_password() -> None:
    # The name of this machine stands for another machine: only its loopback addresses and "localhost" are known to be local.
    with impostor_without_tls() as (port, received):
        message = refusal(f"postgresql://ada:s3cret@{socket.gethostname()}:{port}/orders", "orders", IMPATIENT)
    assert "set sslmode to 'prefer'" in message
    assert len(received) == 1  # the question for TLS


def test_the_url_may_give_a_server_without_tls_the_password() -> None:
    with impostor_without_tls() as (port, received):
        refusal(f"postgresql://ada:s3cret@{socket.gethostname()}:{port}/orders?sslmode=prefer", "orders", IMPATIENT)
    assert b"s3cret" in received[-1]


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full", None])
def test_the_right_authority_is_trusted(
    mode: str | None, postgres_url: str, postgres_schema: str, tls_proxy: TlsProxy, certificates: Certificates
) -> None:
    url = elsewhere(postgres_url, tls_proxy.port, host="localhost")
    connect(url, postgres_schema, PostgresOptions(sslmode=mode, ssl_root_cert=certificates.root))
    assert tls_proxy.encrypted > 0


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full", "require", None])
def test_another_authority_is_not_trusted(
    mode: str | None, postgres_url: str, postgres_schema: str, tls_proxy: TlsProxy, certificates: Certificates
) -> None:
    url = elsewhere(postgres_url, tls_proxy.port, host="localhost")
    message = refusal(url, postgres_schema, PostgresOptions(sslmode=mode, ssl_root_cert=certificates.stranger))
    assert "certificate verify failed" in message
    assert "ssl_root_cert" in message
    assert tls_proxy.encrypted == 0


def test_the_authorities_of_the_system_do_not_include_the_tests_authority(
    postgres_url: str, postgres_schema: str, tls_proxy: TlsProxy
) -> None:
    url = elsewhere(postgres_url, tls_proxy.port, "sslmode=verify-full", host="localhost")
    assert "certificate verify failed" in refusal(url, postgres_schema)


@pytest.mark.parametrize("mode", ["verify-full", None])
def test_a_server_of_another_name_is_refused(
    mode: str | None, postgres_url: str, postgres_schema: str, tls_proxy: TlsProxy, certificates: Certificates
) -> None:
    url = elsewhere(postgres_url, tls_proxy.port)  # the certificate is for localhost, not for its address
    options = PostgresOptions(sslmode=mode, ssl_root_cert=certificates.root)
    assert "mismatch" in refusal(url, postgres_schema, options)
    assert tls_proxy.encrypted == 0


@pytest.mark.parametrize("mode", ["verify-ca", "require"])
def test_a_server_of_another_name_is_accepted_if_only_its_authority_counts(
    mode: str, postgres_url: str, postgres_schema: str, tls_proxy: TlsProxy, certificates: Certificates
) -> None:
    url = elsewhere(postgres_url, tls_proxy.port)
    connect(url, postgres_schema, PostgresOptions(sslmode=mode, ssl_root_cert=certificates.root))


def test_tls_parameters_in_the_url_work_as_in_libpq(
    postgres_url: str, postgres_schema: str, tls_proxy: TlsProxy, certificates: Certificates
) -> None:
    root = quote(str(certificates.root), safe="")
    connect(
        elsewhere(postgres_url, tls_proxy.port, f"sslmode=verify-full&sslrootcert={root}", host="localhost"),
        postgres_schema,
    )
    assert tls_proxy.encrypted > 0


def test_a_client_presents_its_certificate(postgres_url: str, postgres_schema: str, certificates: Certificates) -> None:
    split = urlsplit(postgres_url)
    assert split.hostname is not None
    assert split.port is not None
    with TlsProxy(split.hostname, split.port, certificates.asking_context) as proxy:
        url = elsewhere(postgres_url, proxy.port, host="localhost")
        shown = PostgresOptions(
            ssl_root_cert=certificates.root,
            ssl_client_cert=certificates.client,
            ssl_client_key=certificates.client_key,
        )
        connect(url, postgres_schema, shown)
        refusal(url, postgres_schema, PostgresOptions(ssl_root_cert=certificates.root))


@pytest.mark.parametrize("algorithm", [trustme.KeyType.RSA, trustme.KeyType.ECDSA])
@pytest.mark.parametrize("form", FORMS)
def test_a_client_shows_a_key_of_each_form(
    *,
    algorithm: trustme.KeyType,
    form: serialization.PrivateFormat,
    postgres_url: str,
    postgres_schema: str,
    certificates: Certificates,
    tmp_path: Path,
) -> None:
    client = certificates.authority.issue_cert("client@example.org", key_type=algorithm)
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    client.cert_chain_pems[0].write_to_path(certificate)
    made = serialization.load_pem_private_key(client.private_key_pem.bytes(), None)
    key.write_bytes(made.private_bytes(PEM, form, serialization.NoEncryption()))
    options = PostgresOptions(ssl_root_cert=certificates.root, ssl_client_cert=certificate, ssl_client_key=key)
    split = urlsplit(postgres_url)
    with TlsProxy(split.hostname or "localhost", split.port or 5432, certificates.asking_context) as proxy:
        connect(elsewhere(postgres_url, proxy.port, host="localhost"), postgres_schema, options)


def test_a_client_key_of_another_certificate_is_refused(
    postgres_url: str, postgres_schema: str, tls_proxy: TlsProxy, certificates: Certificates, tmp_path: Path
) -> None:
    another = tmp_path / "another.key"
    certificates.authority.issue_cert("another@example.org").private_key_pem.write_to_path(another)
    options = PostgresOptions(
        ssl_root_cert=certificates.root, ssl_client_cert=certificates.client, ssl_client_key=another
    )
    url = elsewhere(postgres_url, tls_proxy.port, host="localhost")
    assert "the client's key does not belong to its certificate" in refusal(url, postgres_schema, options)


@pytest.mark.parametrize("form", FORMS)
def test_the_error_about_an_encrypted_key_says_how_to_decrypt_it(
    form: serialization.PrivateFormat, certificates: Certificates, tmp_path: Path
) -> None:
    key = serialization.load_pem_private_key(certificates.client_key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.key"
    secret = serialization.BestAvailableEncryption(b"secret")
    encrypted.write_bytes(key.private_bytes(PEM, form, secret))
    with pytest.raises(ConfigurationError, match="openssl pkey -in"):
        PostgresOptions(ssl_client_cert=certificates.client, ssl_client_key=encrypted)


def test_a_client_shows_the_authorities_between_it_and_the_one_of_the_server(
    postgres_url: str, postgres_schema: str, certificates: Certificates, tmp_path: Path
) -> None:
    root = make("authority of the clients", is_authority=True)
    client = make("client", make("between", root, is_authority=True), usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    context = make("localhost", root, names=("localhost",)).context(tmp_path)
    context.load_verify_locations(cadata=root.pem().decode())
    context.verify_mode = ssl.CERT_REQUIRED
    trusted, shown, key = tmp_path / "trusted.pem", tmp_path / "client.pem", tmp_path / "client.key"
    trusted.write_bytes(root.pem())
    shown.write_bytes(b"".join(each.public_bytes(PEM) for each in (client.certificate, *client.chain)))
    key.write_bytes(client.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    split = urlsplit(postgres_url)
    with TlsProxy(split.hostname or "localhost", split.port or 5432, context) as proxy:
        options = PostgresOptions(ssl_root_cert=trusted, ssl_client_cert=shown, ssl_client_key=key)
        connect(elsewhere(postgres_url, proxy.port, host="localhost"), postgres_schema, options)


def test_a_value_larger_than_the_buffers_of_the_socket_arrives_whole(
    postgres_url: str, postgres_schema: str, tls_proxy: TlsProxy
) -> None:
    value = "0123456789abcdef" * 300_000

    @orchestration
    async def echo(_: OrchestrationContext, given: str) -> str:
        return given

    provider = PostgresProvider.connect_with_schema(elsewhere(postgres_url, tls_proxy.port), postgres_schema)
    with provider, Runtime(provider, functions=[echo]) as runtime:
        runtime.client.start_orchestration("large", "echo", value)
        assert runtime.client.wait_for_orchestration("large", 60_000).result() == value
    assert tls_proxy.encrypted > 0
