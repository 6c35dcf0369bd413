"""Servers that are not PostgreSQL."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def mute_server() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def foreign_server() -> Iterator[int]:
    """A port that answers in another protocol."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        yield server.getsockname()[1]
        answering.join()


@contextmanager
def impostor_without_tls() -> Iterator[tuple[int, list[bytes]]]:
    """A PostgreSQL server that refuses TLS and then asks for the password in plain text: its port, and what it received."""
    received: list[bytes] = []
    ask_for_password = b"R" + (8).to_bytes(4, "big") + (3).to_bytes(4, "big")
    with socket.create_server(("", 0)) as server:
        server.settimeout(30)

        def answer() -> None:
            connection, _ = server.accept()
            connection.settimeout(30)
            with connection:
                for reply in (b"N", ask_for_password, b""):
                    message = connection.recv(1024)
                    if not message:
                        return
                    received.append(message)
                    connection.sendall(reply)

        answering = threading.Thread(target=answer)
        answering.start()
        yield server.getsockname()[1], received
        answering.join()


@contextmanager
def impostor_with_tls(context: ssl.SSLContext) -> Iterator[tuple[int, list[bytes]]]:
    """A server that speaks TLS and then asks for the password in plain text: its port, and what it received by TLS.

    It answers one client.
    """
    received: list[bytes] = []
    ask_for_password = b"R" + (8).to_bytes(4, "big") + (3).to_bytes(4, "big")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def answer() -> None:
            connection, _ = server.accept()
            connection.settimeout(30)
            # A client that does not trust the certificate closes the connection.
            with connection, contextlib.suppress(OSError):
                connection.recv(8, socket.MSG_WAITALL)  # the question for TLS
                connection.sendall(b"S")
                with context.wrap_socket(connection, server_side=True) as encrypted:
                    for reply in (ask_for_password, b""):
                        message = encrypted.recv(1024)
                        if not message:
                            return
                        received.append(message)
                        encrypted.sendall(reply)

        answering = threading.Thread(target=answer)
        answering.start()
        yield server.getsockname()[1], received
        answering.join()
