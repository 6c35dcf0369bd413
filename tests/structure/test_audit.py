"""A known vulnerability of a package that is linked, builds or is needed fails the check; a missing network does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from support.postgres_server import free_port

ROOT = Path(__file__).parents[2]

VULNERABILITY = {
    "id": "RUSTSEC-2099-0001",
    "summary": "a frame of a peer overflows a buffer",
    "affected": [{"ranges": [{"events": [{"introduced": "0"}, {"fixed": "99.1.0"}]}], "database_specific": {}}],
}
REMARK = {
    "id": "RUSTSEC-2099-0002",
    "summary": "the crate is unmaintained",
    "affected": [{"ranges": [], "database_specific": {"informational": "unmaintained"}}],
}


class Database:
    """A stand-in for the database: the packages that were asked for, and what it knows of them by name."""

    def __init__(self, known: dict[str, dict[str, Any]]) -> None:
        self.known = known
        self.asked: list[str] = []
        self.address = ""

    def answer(self, path: str, question: Any) -> Any:
        if path.startswith("/v1/vulns/"):
            return next(each for each in self.known.values() if path.endswith(each["id"]))
        purls = [query["package"]["purl"] for query in question["queries"]]
        self.asked += purls
        names = [purl.rpartition("/")[2].partition("@")[0] for purl in purls]
        return {
            "results": [{"vulns": [{"id": self.known[name]["id"]}]} if name in self.known else {} for name in names]
        }


@contextmanager
def database(known: dict[str, dict[str, Any]]) -> Iterator[Database]:
    found = Database(known)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self) -> None:
            self.respond(None)

        def respond(self, question: Any) -> None:
            body = json.dumps(found.answer(self.path, question)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """A test prints nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        found.address = f"http://127.0.0.1:{server.server_port}"
        yield found
        server.shutdown()
        thread.join()


def audit(address: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools/audit.py"), "--database", address, *options]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_packages_that_are_linked_build_and_are_needed_are_asked_for() -> None:
    with database({}) as known:
        ended = audit(known.address)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    names = {purl.partition("@")[0] for purl in known.asked}
    assert {"pkg:cargo/tokio", "pkg:cargo/cc", "pkg:cargo/serde_derive", "pkg:pypi/msgspec"} <= names
    assert "pkg:cargo/rsa" not in names


@pytest.mark.parametrize("package", ["tokio", "msgspec"])
def test_a_known_vulnerability_fails_the_check_and_is_named(package: str) -> None:
    with database({package: VULNERABILITY}) as known:
        ended = audit(known.address)
    assert ended.returncode == 1
    assert f"/{package}@" in ended.stderr
    assert "RUSTSEC-2099-0001: a frame of a peer overflows a buffer (fixed in: 99.1.0)" in ended.stderr


def test_a_remark_is_shown_and_fails_nothing() -> None:
    with database({"tokio": REMARK}) as known:
        ended = audit(known.address)
    assert ended.returncode == 0
    assert "remark: pkg:cargo/tokio@" in ended.stderr


@pytest.mark.parametrize(("options", "status"), [((), 0), (("--required",), 2)], ids=["check", "required"])
def test_a_database_that_cannot_be_reached_is_reported(options: tuple[str, ...], status: int) -> None:
    ended = audit(f"http://127.0.0.1:{free_port()}", *options)
    assert ended.returncode == status
    assert "advisories were not checked, since the database does not answer" in ended.stderr
