"""Tells which packages the wheel's native module links: crates of the registry, and C libraries within them."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUR_OWN = "duroxide-python"
PLATFORM = "x86_64-unknown-linux-gnu"
# The build on a machine that has the headers of OpenSSL, and the one that compiles OpenSSL along.
FEATURES = "extension-module"
EVERY_FEATURE = "extension-module,vendored-openssl"


@dataclass(frozen=True)
class Package:
    """A crate of the registry, or a C library within a crate.

    Attributes:
        license: An SPDX expression.
        license_files: Where its licence stands, for a C library; empty for a crate, whose folder tells.
        within: The crate that has the C library; ``None`` for a crate.
        needs: The linked packages that it uses.
    """

    name: str
    version: str
    license: str
    authors: tuple[str, ...]
    folder: Path
    license_files: tuple[Path, ...] = ()
    within: str | None = None
    needs: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        within = "" if self.within is None else f", C code within {self.within}"
        return f"{self.name} {self.version} ({self.license}){within}"

    @property
    def key(self) -> tuple[str, str]:
        """Name and version, which are unique among the linked packages."""
        return self.name, self.version


def linked_packages(features: str = EVERY_FEATURE) -> list[Package]:
    """The packages that the native module links, in the order of their names.

    Macros and build scripts run on the machine of the compiler. They are not linked.
    """
    linked, compiled = tree("normal,no-proc-macro", features), compiled_packages(features)
    found: list[Package] = []
    for package, node in described(features):
        if package["source"] is None:
            continue  # a package of this repository
        # The C code of OpenSSL comes through a build script, and is linked.
        if (package["name"], package["version"]) not in (compiled if package["name"] == "openssl-src" else linked):
            continue
        crate = crate_of(package, node, linked)
        library = library_within(crate, node["features"])
        if library is not None:
            found.append(library)
            crate = replace(crate, needs=(*crate.needs, library.key))
        found.append(crate)
    return sorted(found, key=str)


def compiled_packages(features: str = EVERY_FEATURE) -> set[tuple[str, str]]:
    """The names and versions of all crates that a build runs or links: also macros and build scripts."""
    return {key for key in tree("normal,build", features) if not key[0].startswith(OUR_OWN)}


@cache
def tree(edges: str, features: str) -> frozenset[tuple[str, str]]:
    """The names and versions of the crates that a build reaches.

    A package of ours in the place of one of the registry is left out. ``cargo metadata`` also follows dependencies that
    no feature switches on, so it names crates that are not compiled.
    """
    arguments = ["tree", "--package", OUR_OWN, "--target", PLATFORM, "--edges", edges, "--features", features]
    lines = run_cargo(*arguments, "--prefix", "none", "--format", "{p}").splitlines()
    replacing = [line for line in lines if f"({ROOT}" in line and not line.startswith(OUR_OWN)]
    return frozenset(
        (line.split()[0], line.split()[1].removeprefix("v")) for line in lines if line and line not in replacing
    )


def described(features: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What cargo knows of each package: its manifest, and its place among the others."""
    found = json.loads(
        run_cargo("metadata", "--format-version=1", f"--filter-platform={PLATFORM}", "--features", features)
    )
    packages = {package["id"]: package for package in found["packages"]}
    return [(packages[node["id"]], node | {"packages": packages}) for node in found["resolve"]["nodes"]]


def run_cargo(*arguments: str) -> str:
    """The output of a command of cargo."""
    command = ["cargo", *arguments, "--locked"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def crate_of(package: dict[str, Any], node: dict[str, Any], linked: frozenset[tuple[str, str]]) -> Package:
    """The description of a crate."""
    used = [node["packages"][dependency["pkg"]] for dependency in node["deps"]]
    needs = sorted({(each["name"], each["version"]) for each in used} & linked)
    return Package(
        package["name"],
        package["version"],
        # An older way to write a choice.
        re.sub(r"\s*/\s*", " OR ", package["license"]),
        tuple(package["authors"]),
        Path(package["manifest_path"]).parent,
        needs=tuple(needs),
    )


def library_within(crate: Package, features: list[str]) -> Package | None:
    """The C library that a crate compiles along."""
    match crate.name:
        case "libsqlite3-sys":
            return library(
                crate, "SQLite", version_in(crate.folder / "sqlite3/sqlite3.h", "SQLITE_VERSION"), "blessing"
            )
        case "libmimalloc-sys":
            folder = crate.folder / "c_src/mimalloc" / ("v2" if "v2" in features else "v3")
            number = int(version_in(folder / "include/mimalloc.h", "MI_MALLOC_VERSION"))
            version = f"{number // 10_000}.{number // 100 % 100}.{number % 100}"
            return library(crate, "mimalloc", version, "MIT", folder / "LICENSE")
        case "openssl-src":
            return library(
                crate, "OpenSSL", crate.version.partition("+")[2], "Apache-2.0", crate.folder / "openssl/LICENSE.txt"
            )
        case _:
            return None


def library(crate: Package, name: str, version: str, license: str, *files: Path) -> Package:
    """The description of a C library within a crate."""
    return Package(name, version, license, (), crate.folder, files, crate.name)


def version_in(header: Path, macro: str) -> str:
    """The value of a macro in a header of C."""
    found = re.search(rf'^#define {macro}\s+"?([\d.]+)', header.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{header} does not define {macro}")
    return found[1]
