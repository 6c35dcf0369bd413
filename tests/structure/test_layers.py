"""The layers of both halves: a part imports only the parts below it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from structure.imports import ROOT, Import, circles, imports_of, modules

# From the top to the bottom. Parts of one line do not import each other.
LAYERS = (
    ("duroxide.durabletask",),
    ("duroxide", "duroxide.__main__", "duroxide.aliases"),
    ("duroxide._runtime",),
    ("duroxide._transactions",),
    ("duroxide._client",),
    ("duroxide._orchestration", "duroxide._declare", "duroxide._store"),
    ("duroxide._values",),
    ("duroxide.exceptions",),
    ("duroxide._native",),
)
RANK = {part: rank for rank, parts in enumerate(reversed(LAYERS)) for part in parts}

# Imports that run upwards or sideways, each with its reason.
ACCEPTED_IMPORTS = {
    ("duroxide.__main__", "duroxide"): "the command line uses the public names, as a program does",
    ("duroxide", "duroxide.aliases"): "the package exports the aliases",
    ("duroxide.exceptions", "duroxide._values.failures"): "an exception reads and writes the failure that it records; "
    "the module of failures imports nothing of the package",
}

# Modules that import each other, each circle with its reason.
ACCEPTED_CIRCLES = {
    frozenset({"duroxide._client.client", "duroxide._client.handles"}): "a client makes handles, a handle names the "
    "type of its client",
    frozenset({"duroxide._client.async_client", "duroxide._client.async_handles"}): "a client makes handles, a handle "
    "names the type of its client",
    frozenset({"duroxide._transactions.outbox", "duroxide._transactions.relay"}): "an outbox is read by its relay, the "
    "relay names the type of its outbox",
    frozenset(
        {
            "duroxide._orchestration.loop_refusals",
            "duroxide._orchestration.event_loop",
            "duroxide._orchestration.loop_futures",
        }
    ): "the loop makes futures and tasks, they name the type of their loop",
}

MODULES = modules()
IMPORTS = [
    each
    for module, path in MODULES.items()
    for each in imports_of(module, path, frozenset(MODULES) | {"duroxide._native"})
    if each.imported != module
]

# A word that must not stand in the code of a crate, nor among its dependencies.
FORBIDDEN_IN_CRATES = {
    "native_tls": (r"sqlx", r"engine[-_]adapter", r"pyo3"),
    "store": (r"engine[-_]adapter", r"pyo3"),
    "engine_adapter": (r"pyo3",),
}


def part_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def named_by(imports: list[Import]) -> dict[str, set[str]]:
    """Return for each module the modules that it imports."""
    return {module: {each.imported for each in imports if each.importer == module} for module in MODULES}


def described(each: Import) -> str:
    return f"{each.importer}:{each.line} imports {each.imported}"


def test_every_module_belongs_to_a_layer() -> None:
    assert {part_of(module) for module in MODULES} <= set(RANK)


def test_a_module_imports_its_own_package_and_those_below() -> None:
    wrong = [
        described(each)
        for each in IMPORTS
        if part_of(each.importer) != part_of(each.imported)
        and RANK[part_of(each.importer)] <= RANK[part_of(each.imported)]
        and (each.importer, each.imported) not in ACCEPTED_IMPORTS
    ]
    assert wrong == []


def test_every_accepted_import_is_still_there() -> None:
    assert {(each.importer, each.imported) for each in IMPORTS} >= set(ACCEPTED_IMPORTS)


def test_the_module_of_failures_imports_nothing_of_the_package() -> None:
    assert [described(each) for each in IMPORTS if each.importer == "duroxide._values.failures"] == []


def test_no_modules_import_each_other_when_they_run() -> None:
    assert circles(named_by([each for each in IMPORTS if not each.for_types])) == set()


def test_modules_name_each_other_for_types_only_where_it_is_accepted() -> None:
    assert circles(named_by(IMPORTS)) == set(ACCEPTED_CIRCLES)


@pytest.mark.parametrize("crate", FORBIDDEN_IN_CRATES)
def test_a_crate_does_not_name_what_is_above_it(crate: str) -> None:
    folder = ROOT / "crates" / crate
    sources = sorted(folder.glob("src/**/*.rs"))
    assert sources, f"there is no source in {folder}"
    wrong = [
        f"{path.relative_to(ROOT)}:{number} names {match.group()}"
        for path in [folder / "Cargo.toml", *sources]
        for number, line in enumerate(code_lines(path), start=1)
        for word in FORBIDDEN_IN_CRATES[crate]
        if (match := re.search(rf"\b{word}", line))
    ]
    assert wrong == []


def code_lines(path: Path) -> list[str]:
    """Return the lines of a file without their comments."""
    comment = "#" if path.suffix == ".toml" else "//"
    return [line.partition(comment)[0] for line in path.read_text(encoding="utf-8").splitlines()]
