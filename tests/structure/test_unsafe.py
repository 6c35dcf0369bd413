"""Unsafe Rust stands in few places, each counted here: a new one is a decision."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What needs it: the interpreter's C interface, and the locks of files by the system.
EXPECTED = {
    "src/boundary/finalization.rs": 2,
    "src/boundary/interpreter.rs": 3,
    "src/boundary/origin.rs": 1,
    "src/logging/forwarder.rs": 1,
    "crates/store/src/sqlite/file/lock/system.rs": 4,
    "crates/store/src/sqlite/file/lock/tests.rs": 1,
}


def test_unsafe_code_stands_only_where_it_is_expected() -> None:
    found: Counter[str] = Counter()
    for folder in ("src", "crates", "benchmarks"):
        for file in (ROOT / folder).rglob("*.rs"):
            code = re.sub(r"//.*", "", file.read_text())
            if count := len(re.findall(r"\bunsafe\b(?=\s*(?:\{|fn|impl|extern|trait))", code)):
                found[str(file.relative_to(ROOT))] = count
    assert found == EXPECTED
