"""The public names and their signatures change only where a change of the golden file says so."""

from __future__ import annotations

import difflib
import importlib

import pytest

from structure.public_names import GOLDEN, MODULES, public_names


def test_the_public_names_are_those_of_the_golden_file() -> None:
    golden, now = (text.splitlines() for text in (GOLDEN.read_text(encoding="utf-8"), public_names()))
    changes = list(difflib.unified_diff(golden, now, GOLDEN.name, "the package", n=0, lineterm=""))
    assert not changes, "\n".join(
        [
            "the public interface changed; if it was meant to, write the golden file again:",
            "  python tests/structure/public_names.py",
            *changes,
        ]
    )


@pytest.mark.parametrize("module", MODULES)
def test_every_exported_name_is_there(module: str) -> None:
    loaded = importlib.import_module(module)
    assert [name for name in loaded.__all__ if not hasattr(loaded, name)] == []
