"""The option that rewrites golden files, and the fixture that compares with them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

GOLDEN = Path(__file__).parent


class Compare(Protocol):
    """The type of the fixture ``compare``."""

    def __call__(self, name: str, text: str) -> None:
        """Compare ``text``, byte by byte, with the golden file ``name``; with ``--update-golden``, write it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files of tests/golden instead of comparing with them",
    )


@pytest.fixture
def compare(request: pytest.FixtureRequest) -> Compare:
    def compare(name: str, text: str) -> None:
        file = GOLDEN / name
        # A change of recorded bytes breaks running instances: look at the difference before you update.
        if request.config.getoption("--update-golden", default=False):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert file.exists(), f"no golden file {name}; make it with: pytest tests/golden --update-golden"
        assert text == file.read_text(encoding="utf-8")

    return compare
