"""Random faults of all kinds under load: no result is lost, wrong, stranded or failed because of them.

``DUROXIDE_FAULTS=200 pytest -s tests/faults/test_random_faults.py`` is the long form; ``DUROXIDE_SEED`` varies it.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from faults.clocks import Clock
from faults.load import SETTLING_SECONDS, Load
from faults.nodes import Node, Nodes
from faults.servers import ServerAtHand
from support.proxy import Proxy
from support.waiting import wait_until

# One fault of each kind.
SHORT_FORM = 14
FAULTS = int(os.environ.get("DUROXIDE_FAULTS", SHORT_FORM))
SEED = int(os.environ.get("DUROXIDE_SEED", "1"))

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(3 * SETTLING_SECONDS + 10 * FAULTS)]

NAMES = ("one", "other")


class Faults:
    """The faults, each repaired when its method returns; ``choice`` decides how long it lasts."""

    def __init__(
        self,
        choice: random.Random,
        server: ServerAtHand,
        proxies: dict[str, Proxy],
        nodes: Nodes,
        clocks: tuple[Clock, Clock],
    ) -> None:
        self._choice = choice
        self._server = server
        self._proxies = proxies
        self._nodes = nodes
        self._server_clock, self._node_clock = clocks
        self._lives: Counter[str] = Counter()
        self._running: dict[str, Node] = {}
        for name in NAMES:
            self._start(name)

    def all(self) -> list[Callable[[], None]]:
        return [
            self.restart_server,
            self.crash_server,
            self.end_a_session,
            self.end_all_sessions,
            self.take_all_connections,
            self.hang_network,
            self.refuse_network,
            self.cut_connections,
            self.swallow_answer,
            self.kill_node,
            self.pause_node,
            self.replace_node,
            self.move_clock_of_server,
            self.move_clock_of_node,
        ]

    def restart_server(self) -> None:
        self._server.stop_fast()
        self._last(0.0, 1.5)
        self._server.start(self._server_clock.environment)

    def crash_server(self) -> None:
        self._server.crash()
        self._last(0.0, 1.5)
        self._server.start(self._server_clock.environment)

    def end_a_session(self) -> None:
        with self._server.connect() as connection:
            session = self._choice.choice(sorted(self._server.sessions_of(connection)))
            connection.execute("SELECT pg_terminate_backend(%s)", [session])

    def end_all_sessions(self) -> None:
        self._server.terminate_all()

    def take_all_connections(self) -> None:
        with take_all_connections(self._server):
            self._last(0.2, 2.0)

    def hang_network(self) -> None:
        with self._on_some_proxies() as proxies:
            for proxy in proxies:
                proxy.hang()
            # Sometimes longer than the leases.
            self._last(0.1, 4.0)
            for proxy in proxies:
                proxy.flow()

    def refuse_network(self) -> None:
        with self._on_some_proxies() as proxies:
            for proxy in proxies:
                proxy.refuse()
            self._last(0.1, 3.0)
            for proxy in proxies:
                proxy.accept()

    def cut_connections(self) -> None:
        with self._on_some_proxies() as proxies:
            for proxy in proxies:
                proxy.cut(self._choice.choice([1, 2, None]))

    def swallow_answer(self) -> None:
        with self._on_some_proxies() as proxies:
            for proxy in proxies:
                # Any later request; the longer the wait, the more likely it is a rare one.
                proxy.swallow_answer("")
            self._last(0.0, 0.3)

    def kill_node(self) -> None:
        name = self._choice.choice(NAMES)
        self._running[name].kill()
        self._last(0.0, 2.0)
        self._start(name)

    def pause_node(self) -> None:
        node = self._running[self._choice.choice(NAMES)]
        node.pause()
        self._last(0.1, 4.0)
        node.resume()

    def replace_node(self) -> None:
        name = self._choice.choice(NAMES)
        self._running[name].shutdown(self._choice.choice([0, 500, 5_000]))
        self._running[name].kill()
        self._start(name)

    def move_clock_of_server(self) -> None:
        # Timers follow this clock, so the jump is no larger than the allowed delay of a timer.
        self._server_clock.set(self._choice.choice([-4, 4]))
        self._last(0.2, 3.0)
        self._server_clock.set(0)

    def move_clock_of_node(self) -> None:
        self._node_clock.set(self._choice.choice([-4, 4]))
        self._last(0.2, 3.0)
        self._node_clock.set(0)

    def _start(self, name: str) -> None:
        self._lives[name] += 1
        environment = self._node_clock.environment if name == NAMES[0] else None
        self._running[name] = self._nodes.start(
            f"{name}-{self._lives[name]}", url=self._proxies[name].url, environment=environment
        )

    @contextmanager
    def _on_some_proxies(self) -> Iterator[list[Proxy]]:
        names = self._choice.choice([NAMES[:1], NAMES[1:], NAMES])
        yield [self._proxies[name] for name in names]

    def _last(self, least: float, most: float) -> None:
        end = time.monotonic() + self._choice.uniform(least, most)
        wait_until(lambda: time.monotonic() > end)


@contextmanager
def take_all_connections(server: ServerAtHand) -> Iterator[None]:
    """Use up all free connections, and cut those of the others."""
    with ExitStack() as taken, server.connect() as administrator:
        own: set[int] = set()
        for session in server.sessions_of(administrator):
            administrator.execute("SELECT pg_terminate_backend(%s)", [session])
        try:
            while True:
                own.add(taken.enter_context(server.connect()).info.backend_pid)
        except psycopg.OperationalError as error:
            if "too many clients" not in str(error):
                raise
        # Other clients were as fast as this one.
        for session in set(server.sessions_of(administrator)) - own:
            administrator.execute("SELECT pg_terminate_backend(%s)", [session])
        yield


@pytest.fixture
def proxies(server: ServerAtHand) -> Iterator[dict[str, Proxy]]:
    """Proxies to the server, one for each node."""
    proxies = {name: Proxy(server.url) for name in NAMES}
    yield proxies
    for proxy in proxies.values():
        proxy.close()


@pytest.fixture
def faults(server: ServerAtHand, proxies: dict[str, Proxy], nodes: Nodes, make_clock: Callable[[], Clock]) -> Faults:
    """The faults, with two nodes and movable clocks."""
    clocks = make_clock(), make_clock()
    server.stop_fast()
    server.start(clocks[0].environment)
    return Faults(random.Random(SEED), server, proxies, nodes, clocks)


def test_random_faults_strand_no_instance(
    faults: Faults, nodes: Nodes, make_load: Callable[..., Load], capsys: pytest.CaptureFixture[str]
) -> None:
    choice = random.Random(SEED)
    load = make_load(seed=SEED)
    load.start()
    happened: list[str] = []
    began = time.monotonic()
    try:
        rest: list[Callable[[], None]] = []
        for number in range(FAULTS):
            if not rest:
                rest = faults.all()
                choice.shuffle(rest)
            fault = rest.pop()
            happened.append(f"{time.monotonic() - began:.1f} s: {fault.__name__}")
            fault()
            # The next fault comes either after work has continued, or right after this one.
            if choice.random() < 0.7:
                load.wait_for_progress(choice.randint(1, 20), seconds=SETTLING_SECONDS)
            if FAULTS > SHORT_FORM and number % 20 == 19:
                with capsys.disabled():
                    print(f"{number + 1} faults, {len(load.ended)} ended, {time.monotonic() - began:.0f} s", flush=True)
        load.finish()
    except BaseException:
        print(f"seed {SEED}:", *happened, sep="\n  ")
        raise
    begun = Counter((line.instance, line.execution, line.place) for line in nodes.ledger() if line.word == "begin")
    again = sum(times - 1 for times in begun.values())
    with capsys.disabled() if FAULTS > SHORT_FORM else ExitStack():
        print(f"{len(load.pieces)} instances, {len(begun)} activities, {again} of them once more")
