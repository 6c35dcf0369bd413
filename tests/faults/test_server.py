"""A PostgreSQL server that stops, restarts, moves, fills up or refuses connections: work continues, none is lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import psycopg
import psycopg.sql
import pytest

from duroxide import Client, PostgresProvider, StartRequest
from faults.load import Load
from faults.nodes import AWAY, BACK, Nodes
from faults.outages import SOON_SECONDS, check_log, wait_until_missed
from faults.servers import ServerAtHand
from support.child_process import RequestFailed
from support.proxy import COMMIT, Proxy
from support.waiting import wait_until

pytestmark = [pytest.mark.alone, pytest.mark.slow]

MakeLoad = Callable[..., Load]


@pytest.mark.parametrize("how", ["fast", "immediately", "kill"])
def test_work_continues_when_the_server_comes_back(
    how: str, server: ServerAtHand, nodes: Nodes, make_load: MakeLoad
) -> None:
    one, other = nodes.start("one"), nodes.start("other")
    load = make_load()
    load.start()
    {"fast": server.stop_fast, "immediately": server.stop_immediately, "kill": server.crash}[how]()
    wait_until_missed(one, other)
    server.start()

    assert load.wait_for_progress() < SOON_SECONDS
    load.finish()
    check_log(one, other)


def test_work_continues_after_a_quick_restart(server: ServerAtHand, nodes: Nodes, make_load: MakeLoad) -> None:
    nodes.start("one")
    load = make_load()
    load.start()
    for _ in range(3):
        server.stop_fast()
        server.start()
        assert load.wait_for_progress() < SOON_SECONDS
    load.finish()


def test_work_continues_after_the_server_was_away_for_longer_than_a_lease(
    server: ServerAtHand, nodes: Nodes, make_load: MakeLoad
) -> None:
    node = nodes.start("one")
    nodes.block("hold", "one")
    load = make_load()
    client = Client(load.provider)
    client.start_orchestration("held", "held")
    wait_until(lambda: nodes.begun("held"))
    load.start()
    server.stop_fast()
    wait_until_missed(node)
    nodes.unblock("hold", "one")
    # The activity ends while the node cannot report it, and its lease ends too.
    with pytest.raises(AssertionError):
        wait_until(lambda: node.count_logged(BACK), seconds=3.0)
    server.start()

    assert load.wait_for_progress() < SOON_SECONDS
    assert client.wait_for_orchestration("held", 20_000).result() == "one"
    load.finish()
    check_log(node)


def test_a_commit_that_a_crash_has_undone_is_repeated(
    server: ServerAtHand, proxy: Proxy, nodes: Nodes, open_provider: Callable[..., PostgresProvider]
) -> None:
    nodes.start("one")
    client = Client(open_provider(proxy.url))

    def crash() -> None:
        proxy.refuse()
        server.stop_immediately()
        server.start()
        # The server reuses the numbers of the transactions that it has forgotten.
        with server.connect() as connection:
            for _ in range(100):
                connection.execute("SELECT pg_current_xact_id()")
        proxy.accept()

    client.start_orchestration("warm", "place")
    for number in range(3):
        proxy.run_instead(COMMIT, crash)
        client.start_orchestration(f"started-{number}", "place")
        wait_until(proxy.has_swallowed.is_set)
        assert client.wait_for_orchestration(f"started-{number}", 20_000).result() == "one"


def checkpoint_both(server: ServerAtHand, replica: ServerAtHand) -> None:
    """Let a server and its replica have the same last checkpoint."""
    with server.connect() as connection:
        connection.execute("CHECKPOINT")
        asked = "SELECT checkpoint_lsn::text FROM pg_control_checkpoint()"
        expected = connection.execute(asked).fetchone()

    def has_followed() -> bool:
        with replica.connect() as connection:
            connection.execute("CHECKPOINT")
            return connection.execute("SELECT checkpoint_lsn::text FROM pg_control_checkpoint()").fetchone() == expected

    wait_until(has_followed)
    # The checkpoint that follows a promotion takes the longer the more there is to write.
    with server.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS ballast")
        connection.execute("CREATE TABLE ballast AS SELECT generate_series(1, 100000)")


def stop_following(replica: ServerAtHand) -> None:
    """Let a replica get no more from its primary."""
    with replica.connect() as connection:
        connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
        connection.execute("SELECT pg_reload_conf()")
        wait_until(lambda: connection.execute("SELECT FROM pg_stat_wal_receiver").fetchone() is None)


@pytest.mark.parametrize("count", [1, 3])
def test_a_start_that_a_promoted_replica_lacks_is_repeated(
    count: int,
    replica: ServerAtHand,
    server: ServerAtHand,
    proxy: Proxy,
    open_provider: Callable[..., PostgresProvider],
) -> None:
    # A commit does not wait for the replica.
    server.stop_fast()
    server.start()
    client = Client(open_provider(proxy.url))
    checkpoint_both(server, replica)
    stop_following(replica)

    def fail_over() -> None:
        proxy.refuse()
        server.crash()
        replica.promote()
        # The new primary gives the number of the transaction that it lacks to another one.
        with replica.connect() as connection:
            for _ in range(100):
                connection.execute("SELECT pg_current_xact_id()")
        proxy.point_to(replica.url)
        proxy.accept()

    proxy.run_instead(COMMIT, fail_over)
    started = [f"started-{number}" for number in range(count)]
    client.start_orchestrations([StartRequest(instance, "place") for instance in started])

    assert proxy.has_swallowed.is_set()
    assert sorted(client.list_all_instances()) == started


def test_work_continues_at_another_address_after_a_fail_over(
    replica: ServerAtHand, server: ServerAtHand, proxy: Proxy, nodes: Nodes, make_load: MakeLoad
) -> None:
    one, other = nodes.start("one", url=proxy.url), nodes.start("other", url=proxy.url)
    load = make_load(proxy.url)
    load.start()
    server.crash()
    replica.promote()
    proxy.point_to(replica.url)

    assert load.wait_for_progress() < SOON_SECONDS
    load.finish(replica.url)
    for node in (one, other):
        assert node.is_alive()


def test_work_waits_while_the_server_is_read_only(
    replica: ServerAtHand, server: ServerAtHand, proxy: Proxy, nodes: Nodes, make_load: MakeLoad
) -> None:
    node = nodes.start("one", url=proxy.url)
    load = make_load(proxy.url)
    load.start()
    # The name leads to the replica before the replica is promoted.
    server.crash()
    proxy.point_to(replica.url)
    wait_until_missed(node)
    replica.promote()

    assert load.wait_for_progress() < SOON_SECONDS
    load.finish(replica.url)


def test_sessions_that_are_ended_one_by_one_are_replaced(
    server: ServerAtHand, nodes: Nodes, make_load: MakeLoad
) -> None:
    one, other = nodes.start("one"), nodes.start("other")
    load = make_load()
    load.start()
    with server.connect() as connection:
        for _ in range(3):
            for session in server.sessions_of(connection):
                connection.execute("SELECT pg_terminate_backend(%s)", [session])
                load.wait_for_progress(1)
    load.finish()
    for node in (one, other):
        assert node.complaints() == []


def test_work_waits_while_the_server_has_no_free_connection(
    server: ServerAtHand, nodes: Nodes, make_load: MakeLoad
) -> None:
    node = nodes.start("one")
    load = make_load()
    load.start()
    with ExitStack() as taken, server.connect() as administrator:

        def take_all() -> None:
            for session in set(server.sessions_of(administrator)) - ours:
                administrator.execute("SELECT pg_terminate_backend(%s)", [session])
            try:
                while True:
                    connection = taken.enter_context(server.connect())
                    ours.add(connection.info.backend_pid)
            except psycopg.OperationalError as error:
                assert "too many clients" in str(error)  # noqa: PT017

        ours: set[int] = set()
        while not node.count_logged(AWAY):
            take_all()

    assert load.wait_for_progress() < SOON_SECONDS
    load.finish()
    check_log(node)


@pytest.fixture
def disk(server: ServerAtHand) -> str:
    """A small disk on which all new tables are."""
    try:
        disk = server.mount(24)
    except RequestFailed as failed:
        if failed.kind != "PermissionError":
            raise
        pytest.skip("filling a disk needs the right to mount one")
    with server.connect() as connection:
        connection.execute("DROP TABLESPACE IF EXISTS small")
        connection.execute(psycopg.sql.SQL("CREATE TABLESPACE small LOCATION {}").format(disk))
        connection.execute("ALTER DATABASE postgres SET default_tablespace = small")
    return disk


def test_work_waits_while_the_disk_is_full(server: ServerAtHand, disk: str, nodes: Nodes, make_load: MakeLoad) -> None:
    node = nodes.start("one")
    load = make_load()
    load.start()
    server.fill(disk)
    # The existing files have some room left, so that not everything fails at once.
    wait_until_missed(node)
    server.make_room(disk)

    assert load.wait_for_progress() < SOON_SECONDS
    load.finish()
    check_log(node)
