"""The relay of an outbox: it moves rows into a store, each once, even if a process dies in between."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from duroxide import _native
from duroxide._native import OutboxRow
from duroxide._values.validation import check_id, check_integer, check_name, check_queue, check_size, check_text
from duroxide._values.versions import check_version
from duroxide.exceptions import DuroxideError

if TYPE_CHECKING:
    from duroxide._store.providers import Provider
    from duroxide._transactions.outbox import Outbox

_PENDING = """SELECT id, key, kind, instance_id, name, data, version FROM duroxide_outbox
WHERE error IS NULL ORDER BY id LIMIT 256"""
# Payloads may be large, so bytes limit a batch as well as rows.
_BATCH_BYTES = 4 << 20

_FAILED_SECONDS = 0.5
_ELSEWHERE_SECONDS = 0.25
# The notice of a write comes before a reader can see the commit, so the relay looks this often, for this long.
_LOOK_SECONDS = 0.002
_COMMIT_SECONDS = 0.06
# The interval between two looks at a database that sends no notices.
_UNTOLD_SECONDS = 0.025

_logger = logging.getLogger("duroxide.outbox")


class WriteTransaction:
    """A transaction that takes SQLite's write lock when it begins."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            # The body failed, or a reader kept the commit waiting for too long.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


@dataclass(frozen=True)
class Taken:
    """The result of one step of a relay.

    Attributes:
        done: How many rows the store took over.
        left: Whether more rows may be left.
    """

    done: int
    left: bool

    def __bool__(self) -> bool:
        return self.left


class Relay:
    """Moves rows of one outbox into one store, a few at a time.

    Args:
        connection: A connection to the application's database.
        native: A client of the store.
    """

    def __init__(self, connection: sqlite3.Connection, native: _native.Client) -> None:
        self._connection = connection
        self._native = native
        self._name = self._find_name()
        self._seen: int | None = None
        # False after a failure: the relay then asks the store which rows it has.
        self._is_known = False

    def take_over(self) -> Taken | None:
        """Move some rows; return ``None`` if another process works on the store."""
        if not self._is_known:
            # Ask before reading the rows, so that the store refuses a batch if another relay has moved rows since.
            self._seen = self._native.relayed(self._name).run()
            self._is_known = True
            self._delete_what_is_there()
        numbers, key, rows = self._read()
        if not rows:
            return Taken(0, bool(numbers))
        self._is_known = False
        answer = self._native.relay(self._name, self._seen, key, rows).run()
        if answer is None:
            return None
        if answer.is_done:
            with WriteTransaction(self._connection):
                self._connection.executemany("DELETE FROM duroxide_outbox WHERE id = ?", [[each] for each in numbers])
            self._seen, self._is_known = key, True
            return Taken(len(rows), left=True)
        if answer.refused:
            self._set_aside([(numbers[row.position], row.reason) for row in answer.refused])
            self._is_known = True
            return Taken(0, left=True)
        self._seen, self._is_known = answer.seen, True
        self._delete_what_is_there()
        return Taken(0, left=True)

    def _find_name(self) -> str:
        select = "SELECT name FROM duroxide_outbox_name"
        found = self._connection.execute(select).fetchone()
        if found is None:
            with WriteTransaction(self._connection):
                self._connection.execute(
                    "INSERT INTO duroxide_outbox_name SELECT lower(hex(randomblob(16))) "
                    "WHERE NOT EXISTS (SELECT 1 FROM duroxide_outbox_name)"
                )
            found = self._connection.execute(select).fetchone()
        return str(found[0])

    def _delete_what_is_there(self) -> None:
        """Delete the rows that the store has: those up to the one whose key it recorded last."""
        if self._seen is None:
            return
        select = "SELECT id FROM duroxide_outbox WHERE key = ? AND error IS NULL"
        last = self._connection.execute(select, [self._seen]).fetchone()
        if last is not None:
            with WriteTransaction(self._connection):
                self._connection.execute("DELETE FROM duroxide_outbox WHERE id <= ? AND error IS NULL", last)

    def _read(self) -> tuple[list[int], int, list[OutboxRow]]:
        """Read rows that can be relayed; return their numbers, the key of the last row, and the rows."""
        numbers: list[int] = []
        rows: list[OutboxRow] = []
        refused: list[tuple[int, str]] = []
        last, size = 0, 0
        for number, key, kind, instance, name, data, version in self._connection.execute(_PENDING).fetchall():
            try:
                row = _checked(kind, instance, name, data, version)
                last = check_integer(key, "key", least=-(2**63), most=2**63 - 1)
            except (TypeError, ValueError) as error:
                refused.append((number, str(error)))
                break
            numbers.append(number)
            rows.append(row)
            size += len(data)
            if size > _BATCH_BYTES:
                break
        if refused and not rows:
            self._set_aside(refused)
            return [refused[0][0]], 0, []
        return numbers, last, rows

    def _set_aside(self, refused: list[tuple[int, str]]) -> None:
        with WriteTransaction(self._connection):
            for number, reason in refused:
                self._connection.execute("UPDATE duroxide_outbox SET error = ? WHERE id = ?", [reason, number])
        for number, reason in refused:
            _logger.warning("row %d of an outbox cannot be relayed and is set aside: %s", number, reason)


def _checked(kind: object, instance: object, name: object, data: object, version: object) -> OutboxRow:
    """Check a row, which any program may have written."""
    if kind == "message":
        checked = check_queue(name)
    else:
        checked = check_name(name, "the name of an event" if kind == "event" else "the name of an orchestration")
    text = check_size(check_text(data, "the data"), "the data")
    return OutboxRow(str(kind), check_id(instance), checked, text, None if version is None else check_version(version))


def _identity(file: str) -> tuple[int, int] | None:
    """Tell a file from another one that takes its place; ``None`` for a database without a file."""
    if not file:
        return None
    status = Path(file).stat()
    return status.st_dev, status.st_ino


class OutboxThread:
    """Relays an outbox into a store until ``stop``.

    Args:
        outbox: The outbox.
        provider: The store.

    Raises:
        ConfigurationError: The database cannot be opened or has no outbox.
    """

    def __init__(self, outbox: Outbox, provider: Provider) -> None:
        self._outbox = outbox
        self._native = _native.Client(provider._store)
        outbox.connect().close()
        self._stopped = threading.Event()
        self._is_failing = False
        self._watcher: _native.DatabaseWatcher | None = None
        self._thread = threading.Thread(target=self._run, name="duroxide-outbox", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end after its current step."""
        self._stopped.set()
        if self._watcher is not None:
            self._watcher.wake()

    def join(self, seconds: float) -> None:
        """Wait at most ``seconds`` for the thread to end. A step that waits for a store or a disk may end later."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._work_while_well()

    def _work_while_well(self) -> None:
        try:
            with closing(self._outbox.connect()) as connection:
                (_, _, file) = connection.execute("PRAGMA database_list").fetchone()
                identity = _identity(file)
            # If the file is still the same, this connection has opened it.
            with closing(self._outbox.connect()) as connection:
                self._work(connection, file, identity)
        except (sqlite3.Error, DuroxideError, OSError) as error:
            self._say_failing(error)
            self._stopped.wait(_FAILED_SECONDS)

    def _work(self, connection: sqlite3.Connection, file: str, identity: tuple[int, int] | None) -> None:
        relay = Relay(connection, self._native)
        self._watcher = _native.DatabaseWatcher(file) if file else None
        version, awake_until = None, 0.0
        while not self._stopped.is_set():
            if _identity(file) != identity:
                # The connection would read the old file for ever.
                _logger.warning("the database of %r was replaced; its new file is opened", self._outbox)
                return
            notices = self._watcher.notices() if self._watcher else 0
            # data_version changes with every commit of another connection, and is cheap to read.
            (current,) = connection.execute("PRAGMA data_version").fetchone()
            if current != version:
                taken = relay.take_over()
                self._say_well()
                if taken is None:
                    self._stopped.wait(_ELSEWHERE_SECONDS)
                elif not taken:
                    version = current
                    # Do not read again at every commit of an application that commits all the time.
                    self._stopped.wait(_LOOK_SECONDS)
            elif time.monotonic() < awake_until:
                self._stopped.wait(_LOOK_SECONDS)
            elif self._wait(notices):
                awake_until = time.monotonic() + _COMMIT_SECONDS

    def _wait(self, notices: int) -> bool:
        """Wait for a notice that the file was written to, or for the next look; return whether a notice came."""
        if self._watcher is None:
            self._stopped.wait(_UNTOLD_SECONDS)
            return False
        # `wait` also returns if `stop` was called since `notices` was read.
        return not self._stopped.is_set() and self._watcher.wait(notices)

    def _say_failing(self, error: Exception) -> None:
        if not self._is_failing and not self._stopped.is_set():
            _logger.warning("%r waits: %s", self._outbox, error)
        self._is_failing = True

    def _say_well(self) -> None:
        if self._is_failing:
            _logger.info("%r continues", self._outbox)
        self._is_failing = False
