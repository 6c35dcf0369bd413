"""TLS in front of a PostgreSQL server without it: clients see the same as of a server with TLS.

The tests' server comes from a wheel without OpenSSL. So a proxy answers the client's request for TLS, presents a
certificate, and forwards the decrypted data.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from pathlib import Path
from types import TracebackType

import trustme
from cryptography.hazmat.primitives import serialization

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class Certificates:
    """An authority for the tests, a server's certificate for ``localhost``, and a client's, as files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.authority = authority = trustme.CA()
        server = authority.issue_cert("localhost")
        client = authority.issue_cert("client@example.org", common_name="postgres")
        self.root = folder / "root.pem"
        self.client = folder / "client.pem"
        self.client_key = folder / "client.pk8"
        self.stranger = folder / "stranger.pem"
        authority.cert_pem.write_to_path(self.root)
        trustme.CA().cert_pem.write_to_path(self.stranger)
        client.cert_chain_pems[0].write_to_path(self.client)
        key = serialization.load_pem_private_key(client.private_key_pem.bytes(), None)
        self.client_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.configure_cert(self.context)
        self.asking_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.configure_cert(self.asking_context)
        authority.configure_trust(self.asking_context)
        self.asking_context.verify_mode = ssl.CERT_REQUIRED


class TlsProxy:
    """Listens on the loopback interface until the end of the ``with`` block."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        self._target = (host, port)
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.encrypted = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> TlsProxy:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, function: object, *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            contextlib.ExitStack() as ends,
        ):  # a client that does not trust us closes the connection
            ends.callback(client.close)
            if client.recv(8, socket.MSG_WAITALL) != SSL_REQUEST:
                return  # as ``hostssl`` in pg_hba.conf: only clients with TLS are accepted
            client.sendall(b"S")
            encrypted = self._context.wrap_socket(client, server_side=True)
            ends.callback(encrypted.close)
            self._open.append(encrypted)
            server = socket.create_connection(self._target)
            ends.callback(server.close)
            self._open.append(server)
            self.encrypted += 1
            self._pass_on(encrypted, server)

    @staticmethod
    def _pass_on(encrypted: ssl.SSLSocket, server: socket.socket) -> None:
        """One thread for both directions: a TLS socket must not be read and written at the same time."""
        other: dict[socket.socket, socket.socket] = {encrypted: server, server: encrypted}
        with contextlib.suppress(OSError, ValueError):
            while True:
                ready = [encrypted] if encrypted.pending() else select.select(list(other), [], [])[0]
                for each in ready:
                    data = each.recv(65_536)
                    if not data:
                        return
                    other[each].sendall(data)
