"""A proxy in front of PostgreSQL that can fail as networks do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

T = TypeVar("T")

# The end of a reply after which no transaction is open: the request is done.
READY = b"Z\x00\x00\x00\x05I"

# The whole request: "BEGIN ISOLATION LEVEL READ COMMITTED" has the word in it, too.
COMMIT = "COMMIT\0"


class Proxy:
    """Forwards connections to a server until a test changes that.

    Attributes:
        has_swallowed: Set when the action of ``swallow_answer`` or ``run_instead`` has happened.
    """

    def __init__(self, url: str) -> None:
        self._split = urlsplit(url)
        self._target = place_of(url)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._port: int = self._socket.getsockname()[1]
        self._connections: set[Connection] = set()
        self._swallow: bytes | None = None
        self._instead: Callable[[], object] | None = None
        self.has_swallowed = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._flow = asyncio.Event()
        self._flow.set()
        self._listens = False
        self._served: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._call(self._listen())

    @property
    def url(self) -> str:
        """The URL of the same database, through the proxy."""
        credentials = self._split.netloc.rpartition("@")[0]
        return urlunsplit(self._split._replace(netloc=f"{credentials}@127.0.0.1:{self._port}"))

    def hang(self) -> None:
        """Forward no more data, and close no connection."""
        self._do(self._flow.clear)

    def flow(self) -> None:
        """Forward again, including the data that was held back."""
        self._do(self._flow.set)

    def cut(self, most: int | None = None) -> int:
        """Cut connections; return their number.

        Args:
            most: At most so many; default ``None``, all.
        """

        def cut() -> int:
            chosen = list(self._connections)[:most]
            for connection in chosen:
                connection.cut()
            return len(chosen)

        return self._do(cut)

    def refuse(self) -> None:
        """Cut all connections and refuse new ones."""
        self._call(self._stop_listening())
        self.cut()

    def accept(self) -> None:
        """Accept connections again."""
        self._socket = socket.create_server(("127.0.0.1", self._port))
        self._call(self._listen())

    def point_to(self, url: str) -> None:
        """Lead to another server from now on, as a host name with a new address does."""
        self._target = place_of(url)
        self.cut()

    def swallow_answer(self, to: str) -> None:
        """Cut the next connection that sends a request with this text, once the server has executed the request."""
        self.has_swallowed.clear()
        self._instead = None
        self._swallow = to.encode()

    def run_instead(self, of: str, action: Callable[[], object]) -> None:
        """Run ``action`` instead of forwarding the next request with this text, and then cut the connection."""
        self.has_swallowed.clear()
        self._instead = action
        self._swallow = of.encode()

    def close(self) -> None:
        """Close the proxy."""
        self._call(self._stop_listening())
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        rest = asyncio.all_tasks(self._loop)
        for task in rest:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _do(self, work: Callable[[], T]) -> T:
        async def do() -> T:
            return work()

        return self._call(do())

    async def _listen(self) -> None:
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._let_in)
        self._listens = True

    async def _stop_listening(self) -> None:
        if self._listens:
            self._listens = False
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _let_in(self) -> None:
        # Not by `asyncio.start_server`: it never closes connections that it accepts while it is being closed.
        try:
            accepted, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        task = self._loop.create_task(self._serve(accepted))
        self._served.add(task)
        task.add_done_callback(self._served.discard)

    async def _serve(self, accepted: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=accepted)
        try:
            await self._connect(reader, writer)
        finally:
            if not writer.is_closing():
                writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flow.wait()
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            return
        connection = Connection(writer, server_writer)
        self._connections.add(connection)
        there = asyncio.ensure_future(self._ask(connection, reader, server_writer))
        back = asyncio.ensure_future(self._answer(connection, server_reader, writer))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            there.cancel()
            back.cancel()
            self._connections.discard(connection)
            connection.close()

    async def _ask(self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if self._swallow is not None and connection.asks(data, self._swallow):
                    self._swallow = None
                    if self._instead is not None:
                        # In a thread, which may outlive the connection.
                        await asyncio.to_thread(self._run_and_notify, self._instead)
                        connection.cut()
                        return
                    connection.swallows = True
                elif self._swallow is None:
                    connection.asks(data, None)
                await self._flow.wait()
                writer.write(data)
                await writer.drain()

    def _run_and_notify(self, action: Callable[[], object]) -> None:
        action()
        self.has_swallowed.set()

    async def _answer(self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = b""
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._flow.wait()
                if connection.swallows:
                    end = (end + data)[-len(READY) :]
                    if end == READY:
                        connection.cut()
                        self.has_swallowed.set()
                        return
                    continue
                writer.write(data)
                await writer.drain()


class Connection:
    """Both directions of a connection, and the statements that the client has prepared on it.

    Attributes:
        swallows: Whether replies of the server are dropped.
    """

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._halves = (client, server)
        self._statements: dict[bytes, bytes] = {}
        self._rest = b""
        self._is_starting = True
        self.swallows = False

    def cut(self) -> None:
        """Break the connection: data that has not been sent is lost."""
        for half in self._halves:
            half.transport.abort()

    def close(self) -> None:
        for half in self._halves:
            half.close()

    def asks(self, data: bytes, text: bytes | None) -> bool:
        """Whether the client runs a statement that has ``text`` in it."""
        found = False
        self._rest += data
        while message := self._next_message():
            kind, body = message
            if kind == b"P":
                name, statement = body.split(b"\0", 2)[:2]
                self._statements[name] = statement
            elif kind == b"B":
                statement = self._statements.get(body.split(b"\0", 2)[1], b"")
                found |= text is not None and text in statement
            elif kind == b"Q":
                found |= text is not None and text in body
        return found

    def _next_message(self) -> tuple[bytes, bytes] | None:
        # A client's messages have no kind byte until it has logged in.
        head = 0 if self._is_starting else 1
        if len(self._rest) < head + 4:
            return None
        (length,) = struct.unpack_from("!I", self._rest, head)
        if len(self._rest) < head + length:
            return None
        kind, body = self._rest[:head], self._rest[head + 4 : head + length]
        self._rest = self._rest[head + length :]
        # A request for encryption, which the tests' server refuses, comes before.
        self._is_starting = self._is_starting and length == 8
        return kind, body


def place_of(url: str) -> tuple[str, int]:
    """Host and port of a URL."""
    split = urlsplit(url)
    return split.hostname or "127.0.0.1", split.port or 5432
