"""A way to PostgreSQL that can swallow the answer to a commit."""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit, urlunsplit


class ConnectionCutter:
    """Passes connections on to a server; once armed, it cuts the next one that commits, after the server has done so.

    Attributes:
        has_cut: Set when it has.
    """

    def __init__(self, url: str) -> None:
        self._split = urlsplit(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._armed = threading.Event()
        self.has_cut = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The URL of the same database, by this way."""
        credentials = self._split.netloc.rpartition("@")[0]
        place = f"{credentials}@127.0.0.1:{self._listener.getsockname()[1]}"
        return urlunsplit(self._split._replace(netloc=place))

    def arm(self) -> None:
        """Cut the next connection that commits."""
        self._armed.set()

    def close(self) -> None:
        """Accept nobody any more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection((self._split.hostname, self._split.port or 5432))
            for connection in (client, server):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            swallow = threading.Event()
            threading.Thread(target=self._pass_on, args=(client, server, swallow), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client, swallow), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket, swallow: threading.Event) -> None:
        try:
            while data := client.recv(65536):
                if b"COMMIT" in data and self._armed.is_set():
                    self._armed.clear()
                    swallow.set()
                server.sendall(data)
        except OSError:
            pass  # The other direction has closed both.
        finally:
            server.close()

    def _answer(self, server: socket.socket, client: socket.socket, swallow: threading.Event) -> None:
        try:
            while data := server.recv(65536):
                if swallow.is_set():
                    # The server has committed, or it would not answer.
                    client.shutdown(socket.SHUT_RDWR)
                    self.has_cut.set()
                    return
                client.sendall(data)
        except OSError:
            pass
        finally:
            client.close()
