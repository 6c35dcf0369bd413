"""Every recipe runs unchanged: under a real server, in a real kernel, as a real script."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import nbclient
import nbformat
import pytest

pytestmark = pytest.mark.task_groups

RECIPES = Path(__file__).parent
TIMEOUT = 60.0
STOP_SECONDS = 30.0
LAMP = {"item": "lamp", "total": 40}
DONE = ["charged 40", "shipped lamp"]


Serve = Callable[..., str]


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    return tmp_path / "orders.db"


@pytest.fixture
def recipe_environment(store_path: Path) -> dict[str, str]:
    return {**os.environ, "ORDERS_DB": str(store_path)}


@pytest.fixture
def serve(tmp_path: Path, recipe_environment: dict[str, str]) -> Iterator[Serve]:
    """Starts a web server on a socket that already listens, so that no request is too early; returns its address."""
    servers: list[tuple[subprocess.Popen[bytes], Path]] = []

    def start(*command: str, socket_option: str, folder: Path = RECIPES) -> str:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            log = tmp_path / f"server-{len(servers)}.log"
            with log.open("wb") as output:
                server = subprocess.Popen(
                    [sys.executable, "-m", *command, *socket_option.format(listener.fileno()).split()],
                    pass_fds=[listener.fileno()],
                    cwd=folder,
                    env=recipe_environment,
                    stdout=output,
                    stderr=output,
                )
            servers.append((server, log))
        return f"http://127.0.0.1:{port}"

    yield start
    for server, log in servers:
        server.send_signal(signal.SIGTERM)
        try:
            status = server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise
        finally:
            print(log.read_text())
        logged = log.read_text()
        assert status in (0, -signal.SIGTERM), logged
        assert "Traceback" not in logged
        assert "Warning" not in logged


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """The server-sent events of a stream: their names and data."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, line.removeprefix("data: ")


def test_fastapi_starts_an_order_and_streams_its_status(serve: Serve) -> None:
    url = serve("uvicorn", "fastapi_app:app", socket_option="--fd {}")
    with httpx.Client(base_url=url, timeout=TIMEOUT) as web:
        assert web.put("/orders/one", json=LAMP).json() == {"started": True}
        assert web.put("/orders/one", json=LAMP).json() == {"started": False}
        with web.stream("GET", "/orders/one/events") as stream:
            events = events_of(stream.iter_lines())
            assert next(events) == ("status", "charged 40")
            web.post("/orders/one/packed")
            assert next(events) == ("status", "packed")
            assert next(events) == ("end", json.dumps(DONE))
            assert list(events) == []


def test_fastapi_ends_a_stream_when_its_reader_disconnects(serve: Serve) -> None:
    url = serve("uvicorn", "fastapi_app:app", socket_option="--fd {}")
    with httpx.Client(base_url=url, timeout=TIMEOUT) as web:
        web.put("/orders/one", json=LAMP)
        with web.stream("GET", "/orders/one/events") as stream:
            assert next(events_of(stream.iter_lines())) == ("status", "charged 40")
        # The server stops in time after this; the fixture checks it.
        assert web.put("/orders/one", json=LAMP).json() == {"started": False}


def test_django_starts_an_order_and_shows_its_status(recipe_environment: dict[str, str]) -> None:
    program = """
        import time

        import django_app
        from django.test import Client

        web = Client()
        order = {"item": "lamp", "total": 40}
        assert web.post("/orders/one/start", order, "application/json").json() == {"started": True}
        assert web.post("/orders/one/start", order, "application/json").json() == {"started": False}
        assert web.post("/orders/one/packed").status_code == 202
        assert django_app.client().wait_for_orchestration("one").status == "Completed"
        shown = web.get("/orders/one").json()
        assert shown == {"status": "Completed", "progress": "packed", "result": ["charged 40", "shipped lamp"]}, shown
    """
    run_python("-c", textwrap.dedent(program), environment=recipe_environment)


def test_a_script_prints_its_result_however_often_it_runs(store_path: Path, recipe_environment: dict[str, str]) -> None:
    for _ in range(2):
        printed = run_python("script.py", str(store_path), "one", environment=recipe_environment)
        assert printed == "charged 40, shipped lamp\n"


def test_a_notebook_runs_from_its_first_cell_to_its_last(
    recipe_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERS_DB", recipe_environment["ORDERS_DB"])
    notebook = nbformat.read(RECIPES / "notebook.ipynb", as_version=4)

    nbclient.NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3").execute()

    printed = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output.text for output in printed if output.name == "stdout"] == [
        "['Hello, Ada!', 'Hello, Grace!']\n",
        "['Hello, Edsger!']\n",
        "['Hello, Barbara!']\n",
    ]
    assert [output for output in printed if output.name != "stdout"] == []


def test_gunicorn_serves_from_every_worker_and_survives_the_loss_of_one(serve: Serve) -> None:
    url = serve("gunicorn", "gunicorn_app:application", socket_option="--bind fd://{}")
    workers: set[int] = set()
    number = 0
    while len(workers) < 2:
        number += 1
        workers.add(fulfilled(url, number)["worker"])
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
        number += 1
        assert fulfilled(url, number)["result"] == DONE


def test_the_error_about_a_store_opened_before_the_fork_says_what_to_do(serve: Serve, tmp_path: Path) -> None:
    program = """
        import os

        from duroxide import Client, SqliteProvider

        client = Client(SqliteProvider.open(os.environ["ORDERS_DB"]))

        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            try:
                return [client.get_status("one").status.encode()]
            except RuntimeError as error:
                return [str(error).encode()]
    """
    (tmp_path / "too_early.py").write_text(textwrap.dedent(program))
    url = serve("gunicorn", "too_early:application", "--preload", socket_option="--bind fd://{}", folder=tmp_path)

    answer = httpx.get(url, timeout=TIMEOUT).text

    assert "has used duroxide and then forked this process" in answer
    assert "fork before the first use" in answer


def fulfilled(url: str, number: int) -> Any:
    """Send an order until it is fulfilled; a killed worker takes its connections with it."""
    while True:
        with contextlib.suppress(httpx.TransportError):
            return httpx.put(f"{url}/{number}", timeout=TIMEOUT).json()


def run_python(*arguments: str, environment: dict[str, str]) -> str:
    """Run a program in the folder of the recipes and return its output; it must print no error."""
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=RECIPES,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout
