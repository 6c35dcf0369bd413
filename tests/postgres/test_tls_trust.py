"""Before a client sends a password, it trusts the authorities of ``ssl_root_cert`` alone, or those of the system."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from duroxide import Client, PostgresOptions, PostgresProvider, ProviderError
from postgres.certificate_maker import Made, make, make_version_1
from postgres.conftest import elsewhere
from postgres.tls_proxy import TlsProxy
from support.fake_servers import impostor_with_tls

PAST = timedelta(days=-1)
FUTURE = timedelta(days=1)
KEY_WITHOUT_CERTIFICATE = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
DAMAGED_CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
VERIFYING = ["verify-ca", "verify-full", "require", None]


class Network:
    """Servers that present certificates, and a client that connects to them."""

    def __init__(self, url: str, schema: str, folder: Path) -> None:
        self._url = url
        self._schema = schema
        self._folder = folder

    def root_file(self, *trusted: Made) -> Path:
        file = self._folder / "root.pem"
        file.write_bytes(b"".join(each.pem() for each in trusted))
        return file

    @contextmanager
    def server(self, presented: Made) -> Iterator[int]:
        """The real server behind a certificate."""
        split = urlsplit(self._url)
        with TlsProxy(split.hostname or "localhost", split.port or 5432, presented.context(self._folder)) as proxy:
            yield proxy.port
            assert proxy.encrypted > 0

    @contextmanager
    def impostor(self, presented: Made) -> Iterator[int]:
        """A server that must receive nothing by TLS."""
        with impostor_with_tls(presented.context(self._folder)) as (port, received):
            yield port
        assert received == []

    def accepts(self, presented: Made, options: PostgresOptions, host: str = "localhost") -> None:
        with self.server(presented) as port:
            url = elsewhere(self._url, port, host=host)
            with PostgresProvider.connect_with_schema(url, self._schema, options=options) as provider:
                assert Client(provider).list_all_instances() == []

    def refuses(self, presented: Made, options: PostgresOptions, host: str = "localhost") -> str:
        patient = PostgresOptions(
            sslmode=options.sslmode, ssl_root_cert=options.ssl_root_cert, connect_timeout=timedelta(milliseconds=500)
        )
        with self.impostor(presented) as port, pytest.raises(ProviderError) as refused:
            PostgresProvider.connect_with_schema(elsewhere(self._url, port, host=host), self._schema, options=patient)
        return str(refused.value)


@pytest.fixture
def network(postgres_url: str, postgres_schema: str, tmp_path: Path) -> Network:
    return Network(postgres_url, postgres_schema, tmp_path)


@pytest.fixture(scope="module")
def authority() -> Made:
    """The authority of the database."""
    return make("authority", is_authority=True)


@pytest.fixture
def trusted_by_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Made:
    """An authority that the system trusts."""
    authority = make("an authority of the system", is_authority=True)
    file = tmp_path / "system.pem"
    file.write_bytes(authority.pem())
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    return authority


@pytest.mark.parametrize("mode", VERIFYING)
def test_an_impostor_that_only_the_system_trusts_gets_no_password(
    mode: str | None, network: Network, authority: Made, trusted_by_the_system: Made
) -> None:
    impostor = make("localhost", trusted_by_the_system, names=("localhost",))
    options = PostgresOptions(sslmode=mode, ssl_root_cert=network.root_file(authority))
    assert "certificate verify failed" in network.refuses(impostor, options)


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full", "require"])
def test_the_root_of_libpqs_variable_is_trusted_alone(
    mode: str, network: Network, authority: Made, trusted_by_the_system: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", str(network.root_file(authority)))
    monkeypatch.setenv("PGSSLMODE", mode)
    impostor = make("localhost", trusted_by_the_system, names=("localhost",))
    assert "certificate verify failed" in network.refuses(impostor, PostgresOptions())
    network.accepts(make("localhost", authority, names=("localhost",)), PostgresOptions())


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_without_a_root_the_authorities_of_the_system_are_trusted(
    mode: str, network: Network, authority: Made, trusted_by_the_system: Made
) -> None:
    options = PostgresOptions(sslmode=mode)
    network.accepts(make("localhost", trusted_by_the_system, names=("localhost",)), options)
    network.refuses(make("localhost", authority, names=("localhost",)), options)


def test_every_certificate_of_the_root_file_is_trusted(network: Network, authority: Made) -> None:
    stranger = make("stranger", is_authority=True)
    options = PostgresOptions(ssl_root_cert=network.root_file(stranger, authority))
    network.accepts(make("localhost", authority, names=("localhost",)), options)


@pytest.mark.parametrize(
    "damaged", [b"", KEY_WITHOUT_CERTIFICATE, DAMAGED_CERTIFICATE], ids=["empty", "key", "damaged"]
)
@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_root_file_without_a_certificate_trusts_no_server(
    damaged: bytes, mode: str, network: Network, trusted_by_the_system: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = network.root_file()
    root.write_bytes(damaged)
    monkeypatch.setenv("PGSSLROOTCERT", str(root))
    network.refuses(make("localhost", trusted_by_the_system, names=("localhost",)), PostgresOptions(sslmode=mode))


def test_a_damaged_certificate_in_the_root_file_is_not_left_out(network: Network, authority: Made) -> None:
    root = network.root_file(authority)
    root.write_bytes(root.read_bytes() + DAMAGED_CERTIFICATE)
    network.refuses(make("localhost", authority, names=("localhost",)), PostgresOptions(ssl_root_cert=root))


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_missing_root_file_trusts_no_server(
    mode: str, network: Network, trusted_by_the_system: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / "missing.pem"))
    network.refuses(make("localhost", trusted_by_the_system, names=("localhost",)), PostgresOptions(sslmode=mode))


def test_the_root_file_is_read_for_each_connection(network: Network, authority: Made) -> None:
    options = PostgresOptions(ssl_root_cert=network.root_file(make("former", is_authority=True)))
    server = make("localhost", authority, names=("localhost",))
    network.refuses(server, options)
    network.root_file(authority)
    network.accepts(server, options)


def test_an_authority_of_the_same_name_is_not_trusted(network: Network, authority: Made) -> None:
    namesake = make("authority", is_authority=True)
    options = PostgresOptions(ssl_root_cert=network.root_file(authority))
    network.refuses(make("localhost", namesake, names=("localhost",)), options)


def test_an_intermediate_authority_signs_for_its_authority(network: Network, authority: Made) -> None:
    between = make("between", authority, is_authority=True)
    options = PostgresOptions(ssl_root_cert=network.root_file(authority))
    network.accepts(make("localhost", between, names=("localhost",)), options)


def test_a_certificate_of_a_server_does_not_sign_another(network: Network, authority: Made) -> None:
    another_server = make("other", authority, names=("other",))
    options = PostgresOptions(sslmode="verify-ca", ssl_root_cert=network.root_file(authority))
    forged = make("localhost", another_server, names=("localhost",))
    assert "certificate verify failed" in network.refuses(forged, options)


@pytest.mark.parametrize("is_authority", [True, False])
@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_the_servers_own_certificate_may_be_the_root(is_authority: bool, mode: str, network: Network) -> None:
    server = make("localhost", names=("localhost",), is_authority=is_authority)
    network.accepts(server, PostgresOptions(sslmode=mode, ssl_root_cert=network.root_file(server)))


@pytest.mark.parametrize("is_authority", [True, False])
def test_a_copy_of_the_servers_own_certificate_with_another_key_is_refused(
    is_authority: bool, network: Network
) -> None:
    server = make("localhost", names=("localhost",), is_authority=is_authority)
    copy = make("localhost", names=("localhost",), is_authority=is_authority)
    network.refuses(copy, PostgresOptions(sslmode="verify-ca", ssl_root_cert=network.root_file(server)))


def test_a_root_that_is_no_authority_stands_for_itself_alone(network: Network) -> None:
    server = make("localhost", names=("localhost",))
    signed_by_it = make("localhost", server, names=("localhost",))
    network.refuses(signed_by_it, PostgresOptions(sslmode="verify-ca", ssl_root_cert=network.root_file(server)))


@pytest.mark.parametrize("is_authority", [True, False])
def test_the_servers_own_certificate_is_refused_after_its_end(is_authority: bool, network: Network) -> None:
    server = make("localhost", names=("localhost",), is_authority=is_authority, ends=PAST)
    options = PostgresOptions(sslmode="verify-ca", ssl_root_cert=network.root_file(server))
    assert "expired" in network.refuses(server, options)


@pytest.mark.parametrize("is_authority", [True, False])
def test_the_servers_own_certificate_must_name_the_host(is_authority: bool, network: Network) -> None:
    server = make("other", names=("other.example",), is_authority=is_authority)
    assert "mismatch" in network.refuses(server, PostgresOptions(ssl_root_cert=network.root_file(server)))


def test_a_certificate_after_its_end_is_refused(network: Network, authority: Made) -> None:
    server = make("localhost", authority, names=("localhost",), ends=PAST)
    options = PostgresOptions(sslmode="verify-ca", ssl_root_cert=network.root_file(authority))
    assert "expired" in network.refuses(server, options)


def test_a_certificate_before_its_begin_is_refused(network: Network, authority: Made) -> None:
    server = make("localhost", authority, names=("localhost",), begins=FUTURE)
    options = PostgresOptions(sslmode="verify-ca", ssl_root_cert=network.root_file(authority))
    assert "not yet valid" in network.refuses(server, options)


def test_an_authority_after_its_end_is_refused(network: Network) -> None:
    ended = make("authority", is_authority=True, ends=PAST)
    options = PostgresOptions(sslmode="verify-ca", ssl_root_cert=network.root_file(ended))
    assert "expired" in network.refuses(make("localhost", ended, names=("localhost",)), options)


def test_a_certificate_of_a_client_is_not_a_servers(network: Network, authority: Made) -> None:
    client = make("localhost", authority, names=("localhost",), usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    network.refuses(client, PostgresOptions(sslmode="verify-ca", ssl_root_cert=network.root_file(authority)))


def test_a_certificate_of_a_client_is_not_a_servers_even_as_the_root(network: Network) -> None:
    client = make("localhost", names=("localhost",), usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    network.refuses(client, PostgresOptions(sslmode="verify-ca", ssl_root_cert=network.root_file(client)))


def test_a_certificate_without_alternative_names_names_its_owner(network: Network, authority: Made) -> None:
    network.accepts(make("LocalHost", authority), PostgresOptions(ssl_root_cert=network.root_file(authority)))


def test_a_certificate_without_alternative_names_and_with_another_owner_is_refused(
    network: Network, authority: Made
) -> None:
    options = PostgresOptions(ssl_root_cert=network.root_file(authority))
    assert "mismatch" in network.refuses(make("localhost.example", authority), options)


def test_the_owner_does_not_count_beside_alternative_names(network: Network, authority: Made) -> None:
    options = PostgresOptions(ssl_root_cert=network.root_file(authority))
    assert "mismatch" in network.refuses(make("localhost", authority, names=("other.example",)), options)


def test_an_authority_of_one_domain_does_not_name_an_owner_elsewhere(network: Network, authority: Made) -> None:
    between = make("between", authority, is_authority=True, permitted="test.example")
    options = PostgresOptions(sslmode="verify-ca", ssl_root_cert=network.root_file(authority))
    network.accepts(make("database.test.example", between), options)
    assert "permitted subtree violation" in network.refuses(make("database.example", between), options)


def test_a_root_of_one_domain_does_not_name_an_owner_elsewhere(network: Network) -> None:
    root = make("root", is_authority=True, permitted="test.example")
    options = PostgresOptions(sslmode="verify-ca", ssl_root_cert=network.root_file(root))
    assert "permitted subtree violation" in network.refuses(make("database.example", root), options)


def test_an_address_is_named_by_the_certificate(network: Network, authority: Made) -> None:
    options = PostgresOptions(ssl_root_cert=network.root_file(authority))
    network.accepts(make("server", authority, names=("127.0.0.1",)), options, host="127.0.0.1")
    assert "mismatch" in network.refuses(make("server", authority, names=("127.0.0.2",)), options, host="127.0.0.1")
    assert "mismatch" in network.refuses(make("127.0.0.1", authority), options, host="127.0.0.1")


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_certificates_of_version_1_are_trusted(mode: str, network: Network) -> None:
    root = make_version_1("authority")
    options = PostgresOptions(sslmode=mode, ssl_root_cert=network.root_file(root))
    network.accepts(make_version_1("localhost", root), options)
    network.accepts(make("localhost", root, names=("localhost",)), options)


@pytest.mark.parametrize("mode", ["prefer", "require"])
def test_a_certificate_of_version_1_encrypts(mode: str, network: Network) -> None:
    network.accepts(make_version_1("localhost"), PostgresOptions(sslmode=mode))


def test_the_servers_own_certificate_of_version_1_may_be_the_root(network: Network) -> None:
    server = make_version_1("localhost")
    network.accepts(server, PostgresOptions(ssl_root_cert=network.root_file(server)))


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda root: make_version_1("localhost", make_version_1(root)), id="another key"),
        pytest.param(lambda _: make_version_1("localhost", make_version_1("other")), id="another authority"),
        pytest.param(lambda _: make_version_1("localhost"), id="signed by itself"),
    ],
)
def test_a_forged_certificate_of_version_1_is_refused(forge: Callable[[str], Made], network: Network) -> None:
    root = make_version_1("authority")
    options = PostgresOptions(sslmode="verify-ca", ssl_root_cert=network.root_file(root))
    assert "certificate verify failed" in network.refuses(forge("authority"), options)


def test_a_certificate_of_version_1_has_dates_and_a_name(network: Network) -> None:
    root = make_version_1("authority")
    options = PostgresOptions(ssl_root_cert=network.root_file(root))
    assert "expired" in network.refuses(make_version_1("localhost", root, ends=PAST), options)
    assert "mismatch" in network.refuses(make_version_1("other", root), options)


def test_a_certificate_of_version_1_is_signed_by_an_authority(network: Network, authority: Made) -> None:
    server = make("other", authority, names=("other",))
    options = PostgresOptions(sslmode="verify-ca", ssl_root_cert=network.root_file(server, authority))
    network.refuses(make_version_1("localhost", server), options)
    network.accepts(make_version_1("localhost", authority), options)


def test_a_server_may_present_an_authority_that_the_root_has_signed(network: Network, authority: Made) -> None:
    options = PostgresOptions(ssl_root_cert=network.root_file(authority))
    network.accepts(make("localhost", authority, names=("localhost",), is_authority=True), options)
    namesake = make("authority", is_authority=True)
    network.refuses(make("localhost", namesake, names=("localhost",), is_authority=True), options)
