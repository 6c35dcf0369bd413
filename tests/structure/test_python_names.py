"""The Python names that the native half uses exist: `src/boundary/python.rs` lists them all."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src"
NAMES = SOURCES / "boundary" / "python.rs"

TEXT = re.sub(r"///.*", "", NAMES.read_text(encoding="utf-8"))
EXCEPTION = re.compile(r"import_exception!\(([\w.]+), (\w+)\);")
ATTRIBUTES = re.compile(r'attributes! \{ "([\w.]+)":(.*?)\n\}', re.DOTALL)
MEMBERS = re.compile(r'members! \{ "([\w.]+)", "(\w+)":(.*?)\n\}', re.DOTALL)
NAME = re.compile(r'[A-Z_]+ = "(\w+)";')

ALL_ATTRIBUTES = EXCEPTION.findall(TEXT) + [
    (module, name) for module, names in ATTRIBUTES.findall(TEXT) for name in NAME.findall(names)
]
ALL_MEMBERS = [(module, owner, name) for module, owner, names in MEMBERS.findall(TEXT) for name in NAME.findall(names)]

# What reaches Python without a name from the list: an import, or a method or field that is not part of the language.
IMPORT = re.compile(r"\.import\(|import_exception!\(|PyModule::import")
MEMBER_BY_TEXT = re.compile(
    r'(?:call_method\w*|[gs]etattr\w*|hasattr)\(\s*(?:intern!\(\s*[\w.()]+,\s*)?"(\w+)"|intern!\([^"]*"(\w+)"'
)
# The methods of generators and coroutines, the value that StopIteration carries, a method of a class of this crate, a
# method of text, and two parameters of the methods of a logger.
KNOWN = {"send", "throw", "close", "value", "complete", "encode", "exc_info", "extra"}


def test_every_name_is_read() -> None:
    assert len(ALL_ATTRIBUTES) + len(ALL_MEMBERS) == len(EXCEPTION.findall(TEXT)) + len(NAME.findall(TEXT))
    assert len(ALL_MEMBERS) > 40


@pytest.mark.parametrize(("module", "name"), ALL_ATTRIBUTES)
def test_an_attribute_of_a_module_exists(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("module", "owner", "name"), ALL_MEMBERS)
def test_a_member_of_a_class_exists(module: str, owner: str, name: str) -> None:
    kind = getattr(importlib.import_module(module), owner)
    assert hasattr(kind, name) or name in typing.get_type_hints(kind)


def test_every_module_is_imported_with_the_package() -> None:
    # An import at first use may fail for lack of descriptors, and would fail an orchestration or an activity.
    modules = sorted({name for names in (EXCEPTION, ATTRIBUTES, MEMBERS) for name, *_ in names.findall(TEXT)})
    program = f"import duroxide, sys; print([name for name in {modules!r} if name not in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_other_sources_name_nothing_of_python() -> None:
    named = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in sorted(SOURCES.rglob("*.rs"))
        if path != NAMES
        for pattern in (IMPORT, MEMBER_BY_TEXT)
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
        if not KNOWN & set(match.groups())
    ]
    assert named == []
