"""Asks a database of advisories about the packages that this package links, is built with, and needs.

``python tools/audit.py`` fails if it knows a vulnerability of one of them. If the database does not answer, it says so and
succeeds, so that checks work without a network; ``--required`` makes that a failure. The database is OSV, which has the
advisories of RustSec for crates, and those of PyPA for Python packages.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from linked_packages import FEATURES, compiled_packages

DATABASE = "https://api.osv.dev"
SECONDS = 10
# The most that the database takes in one request is 1,000.
BATCH = 500

# What the package needs when it runs, and what builds it. Tools of tests and checks are not part of a release.
PYTHON = ("duroxide", "maturin")

# Advisories that do not concern this package, each with the reason.
ACCEPTED: dict[str, str] = {}


class NoAnswerError(Exception):
    """The database cannot be reached, or does not answer as it should."""


def packages() -> list[str]:
    """The package URLs of the crates and Python packages."""
    crates = (f"pkg:cargo/{name}@{version}" for name, version in sorted(compiled_packages(FEATURES)))
    return [*crates, *(f"pkg:pypi/{name}@{version}" for name, version in sorted(python_packages()))]


def python_packages() -> set[tuple[str, str]]:
    """The Python packages that are installed here, and needed for this package or its build."""
    to_visit, found = list(PYTHON), {}
    while to_visit:
        name = re.sub(r"[-_.]+", "-", to_visit.pop()).lower()
        if name in found:
            continue
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            # A requirement for another platform or version of Python.
            continue
        found[name] = installed.version
        needed = (line for line in installed.requires or [] if "extra ==" not in line)
        to_visit += (re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in needed)
    del found["duroxide"]
    return set(found.items())


def ask(address: str, question: dict[str, Any] | None = None) -> Any:
    """Send a request to the database.

    Raises:
        NoAnswerError: It cannot be reached, or its answer is not JSON.
    """
    body = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:
        raise NoAnswerError(f"{address}: {error}") from error


def advisories(database: str, asked: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The advisories that the database knows, each with the package that it concerns."""
    for start in range(0, len(asked), BATCH):
        batch = asked[start : start + BATCH]
        answer = ask(f"{database}/v1/querybatch", {"queries": [{"package": {"purl": package}} for package in batch]})
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list) or len(results) != len(batch):
            raise NoAnswerError(f"{database}: the answer does not fit the question")
        for package, result in zip(batch, results, strict=True):
            for known in result.get("vulns", []):
                yield package, ask(f"{database}/v1/vulns/{known['id']}")


def is_remark(advisory: dict[str, Any]) -> bool:
    """Whether it tells of no vulnerability, for example that a crate is unmaintained."""
    affected = advisory.get("affected", [])
    return bool(affected) and all(each.get("database_specific", {}).get("informational") for each in affected)


def line_about(package: str, advisory: dict[str, Any]) -> str:
    """What a reader needs of an advisory: the package, the summary, and the versions with the mend."""
    ranges = (each for affected in advisory.get("affected", []) for each in affected.get("ranges", []))
    mended = sorted({event["fixed"] for each in ranges for event in each.get("events", []) if "fixed" in event})
    summary = advisory.get("summary") or "see the advisory"
    return f"{package}: {advisory['id']}: {summary} (fixed in: {', '.join(mended) or 'no version'})"


def main() -> int:
    """Print the advisories, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", default=DATABASE, help="the address of the database; default %(default)s")
    parser.add_argument("--required", action="store_true", help="fail if the database does not answer")
    options = parser.parse_args()
    try:
        found = list(advisories(options.database.rstrip("/"), packages()))
    except NoAnswerError as reason:
        print(f"advisories were not checked, since the database does not answer: {reason}", file=sys.stderr)
        return 2 if options.required else 0
    open_ones = [(package, each) for package, each in found if each["id"] not in ACCEPTED]
    vulnerabilities = [(package, each) for package, each in open_ones if not is_remark(each)]
    for package, each in open_ones:
        kind = "vulnerability" if (package, each) in vulnerabilities else "remark"
        print(f"{kind}: {line_about(package, each)}", file=sys.stderr)
    return 1 if vulnerabilities else 0


if __name__ == "__main__":
    sys.exit(main())
