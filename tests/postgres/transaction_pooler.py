"""PgBouncer's transaction mode in a small readable form: many clients, few connections to the server.

A client holds a connection to the server from its first message to the end of its transaction; then any client may get
the connection, so a session has no state. Prepared statements are supported as by PgBouncer 1.21 and newer, or not, as
by older versions.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType

import psycopg

SSL_REQUEST = 80877103
# Parameters that PgBouncer tracks itself.
TRACKED = {
    "user",
    "database",
    "client_encoding",
    "datestyle",
    "timezone",
    "standard_conforming_strings",
    "application_name",
}


@dataclass
class Backend:
    """One connection to the server, opened by libpq."""

    connection: psycopg.Connection
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    prepared: set[bytes] = field(default_factory=set)


@dataclass
class Borrowed:
    """The replies that a client still expects from its connection."""

    backend: Backend
    ready: int = 0
    unfinished: bool = False
    client_gone: bool = False
    # In the order of the replies: whether the client asked for it.
    parsed: deque[bool] = field(default_factory=deque)
    closed: deque[bool] = field(default_factory=deque)
    making: list[bytes] = field(default_factory=list)


class TransactionPooler:
    """Listens on the loopback interface until the end of the ``with`` block.

    Args:
        url: The server.
        size: Connections to the server.
        carries_statements: As with ``max_prepared_statements`` above zero.
        ignored: As ``ignore_startup_parameters``.
    """

    def __init__(
        self,
        url: str,
        size: int = 4,
        *,
        carries_statements: bool = True,
        ignored: tuple[str, ...] = ("extra_float_digits",),
    ) -> None:
        self._url = url
        self._size = size
        self._carries = carries_statements
        self._accepted = TRACKED | set(ignored)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._idle: list[Backend] = []
        self._backends: list[Backend] = []
        self._free = asyncio.Semaphore(size)
        self._tasks: set[asyncio.Task[None]] = set()
        self.transactions = 0
        self.port = 0

    def __enter__(self) -> TransactionPooler:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _begin(self) -> None:
        for _ in range(self._size):
            connection = await asyncio.to_thread(psycopg.connect, self._url, autocommit=True)
            # libpq has logged in; from here on its socket is ours.
            copied = socket.socket(fileno=os.dup(connection.fileno()))
            copied.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=copied, limit=2**24)
            self._backends.append(Backend(connection, reader, writer))
        self._idle = list(self._backends)
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0, limit=2**24)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the aborted sockets close
        for backend in self._backends:
            backend.writer.close()
            await asyncio.to_thread(backend.connection.close)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._session(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            # A reply that the client does not read would keep the socket open.
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not await self._let_in(reader, writer):
            return
        statements: dict[bytes, bytes] = {}
        borrowed: Borrowed | None = None
        answering: asyncio.Task[None] | None = None
        try:
            while True:
                kind, body = await receive(reader)
                if kind == b"X":
                    return
                # The replies to earlier messages decide whether the connection is still this client's.
                if answering is not None and answering.done():
                    answering.result()
                    borrowed = None
                if borrowed is None:
                    borrowed = await self._borrow()
                    answering = asyncio.create_task(self._answer(borrowed, writer))
                self._forward(kind, body, borrowed, statements)
        finally:
            if answering is not None and not answering.done():
                assert borrowed is not None
                borrowed.client_gone, borrowed.unfinished = True, False
                borrowed.ready += 2
                borrowed.backend.writer.write(message(b"S", b"") + message(b"Q", b"ROLLBACK\0"))
                await answering

    async def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        while True:
            size = struct.unpack("!i", await reader.readexactly(4))[0]
            body = await reader.readexactly(size - 4)
            if struct.unpack("!i", body[:4])[0] != SSL_REQUEST:
                break
            writer.write(b"N")
        names = [name.decode().lower() for name in body[4:].split(b"\0")[:-2][::2]]
        unknown = [name for name in names if name not in self._accepted]
        if unknown:
            text = f"unsupported startup parameter: {unknown[0]}"
            writer.write(message(b"E", b"SFATAL\0VFATAL\0C08P01\0M" + text.encode() + b"\0\0"))
            await writer.drain()
            return False
        greeting = message(b"R", struct.pack("!i", 0)) + message(b"S", b"server_version\x0018.0\0")
        greeting += message(b"S", b"client_encoding\0UTF8\0") + message(b"S", b"standard_conforming_strings\0on\0")
        writer.write(greeting + message(b"K", os.urandom(8)) + message(b"Z", b"I"))
        return True

    async def _borrow(self) -> Borrowed:
        await self._free.acquire()
        self.transactions += 1
        # The one that was used last, as PgBouncer does.
        return Borrowed(self._idle.pop())

    def _give_back(self, borrowed: Borrowed) -> None:
        self._idle.append(borrowed.backend)
        self._free.release()

    def _forward(self, kind: bytes, body: bytes, borrowed: Borrowed, statements: dict[bytes, bytes]) -> None:
        borrowed.unfinished = kind not in (b"Q", b"S")
        if not borrowed.unfinished:
            borrowed.ready += 1
        elif self._carries and kind == b"P" and body[0]:
            name, _, rest = body.partition(b"\0")
            statements[name] = rest
            self._prepare(rest, borrowed, asked=True)
            return
        elif self._carries and kind == b"B":
            portal, _, rest = body.partition(b"\0")
            name, _, rest = rest.partition(b"\0")
            body = portal + b"\0" + self._known(name, borrowed, statements) + b"\0" + rest
        elif self._carries and kind == b"D" and body[:1] == b"S":
            body = b"S" + self._known(body[1:-1], borrowed, statements) + b"\0"
        elif kind == b"P":
            borrowed.parsed.append(True)
        elif kind == b"C":
            borrowed.closed.append(True)
            if self._carries and body[:1] == b"S":
                name = body[1:-1]
                statements.pop(name, None)
                body = b"Sno such statement\0"  # others may still use it; closing an unknown one is not an error
        borrowed.backend.writer.write(message(kind, body))

    def _known(self, name: bytes, borrowed: Borrowed, statements: dict[bytes, bytes]) -> bytes:
        """The name that a client's statement has on the server; prepare it there first if needed."""
        if not name or name not in statements:
            return name
        rest = statements[name]
        own = server_name(rest)
        if own not in borrowed.backend.prepared:
            self._prepare(rest, borrowed, asked=False)
        return own

    @staticmethod
    def _prepare(rest: bytes, borrowed: Borrowed, *, asked: bool) -> None:
        own, backend = server_name(rest), borrowed.backend
        backend.prepared.add(own)
        borrowed.making.append(own)
        borrowed.closed.append(False)  # closing an unknown statement is not an error
        borrowed.parsed.append(asked)
        backend.writer.write(message(b"C", b"S" + own + b"\0") + message(b"P", own + b"\0" + rest))

    async def _answer(self, borrowed: Borrowed, writer: asyncio.StreamWriter) -> None:
        """Forward the server's replies to the end of the transaction, and return the connection."""
        while True:
            kind, body = await receive(borrowed.backend.reader)
            wanted = True
            if kind == b"1":
                wanted = borrowed.parsed.popleft()
            elif kind == b"3":
                wanted = borrowed.closed.popleft()
            elif kind == b"Z":
                borrowed.ready -= 1
                borrowed.making.clear()
            elif kind == b"E":
                # Messages before the next Sync are skipped; whether they were prepared is unknown.
                borrowed.parsed.clear()
                borrowed.closed.clear()
                borrowed.backend.prepared.difference_update(borrowed.making)
            if wanted and not borrowed.client_gone:
                writer.write(message(kind, body))
            if kind == b"Z" and body == b"I" and borrowed.ready == 0 and not borrowed.unfinished:
                self._give_back(borrowed)
                return


def server_name(rest: bytes) -> bytes:
    """One name for one text with one list of types."""
    return b"pooled_" + hashlib.sha1(rest, usedforsecurity=False).hexdigest().encode()


def message(kind: bytes, body: bytes) -> bytes:
    """One message of PostgreSQL's protocol."""
    return kind + struct.pack("!i", len(body) + 4) + body


async def receive(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The next message: its kind and its body."""
    head = await reader.readexactly(5)
    return head[:1], await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)
