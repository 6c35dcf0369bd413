"""Writes THIRD-PARTY-LICENSES: the licences of the crates that the wheel's native module links, and of the C code in them.

``python tools/third_party_licenses.py`` writes the file again after a change of Cargo.lock.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FILE = ROOT / "THIRD-PARTY-LICENSES"
OUR_OWN = "duroxide-python"
PLATFORM = "x86_64-unknown-linux-gnu"
# A wheel may contain OpenSSL.
FEATURES = "extension-module,vendored-openssl"
LICENSE_FILES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE", "COPYRIGHT")
# Where a package offers a choice, this file says enough.
CHOSEN = ("LICENSE-MIT", "LICENSE-MIT.md", "LICENSE-MIT.txt", "license-mit")
# C code within a crate, with its own licence.
BUNDLED_CODE = {
    "libmimalloc-sys": "c_src/mimalloc/v2/LICENSE",
    "openssl-src": "openssl/LICENSE.txt",
}
PUBLIC_DOMAIN = "The library SQLite, which libsqlite3-sys contains, is in the public domain.\n"


@dataclass(frozen=True)
class Crate:
    """A package of the registry."""

    name: str
    version: str
    license: str
    authors: tuple[str, ...]
    folder: Path

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.license})"


def linked_crates(features: str = FEATURES) -> list[Crate]:
    """The crates that the native module links, in the order of their names; macros and build scripts are not linked."""
    command = ["cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={PLATFORM}"]
    command += ["--features", features]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    to_visit = [identity for identity, package in packages.items() if package["name"] == OUR_OWN]
    visited: set[str] = set()
    while to_visit:
        identity = to_visit.pop()
        if identity in visited or is_macro(packages[identity]):
            continue
        visited.add(identity)
        for dependency in nodes[identity]["deps"]:
            is_linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            # The C code of OpenSSL comes through a build script, and is linked.
            if is_linked or dependency["name"] == "openssl_src":
                to_visit.append(dependency["pkg"])
    # Packages of this workspace have no source.
    foreign = (packages[identity] for identity in visited if packages[identity]["source"])
    return sorted((crate_of(package) for package in foreign), key=str)


def is_macro(package: dict[str, Any]) -> bool:
    """Whether the compiler alone runs a package."""
    return any("proc-macro" in target["kind"] for target in package["targets"])


def crate_of(package: dict[str, Any]) -> Crate:
    """What this tool needs of a package in the output of cargo."""
    folder = Path(package["manifest_path"]).parent
    return Crate(package["name"], package["version"], package["license"], tuple(package["authors"]), folder)


def texts(crate: Crate) -> Iterator[str]:
    """The texts of a crate's licences: one where the crate offers a choice that has it."""
    files = sorted(file for file in crate.folder.iterdir() if file.name.upper().startswith(LICENSE_FILES))
    files = [file for file in files if file.is_file()]
    chosen = [file for file in files if file.name in CHOSEN]
    for file in chosen[:1] if chosen and " AND " not in crate.license else files:
        yield file.read_text(encoding="utf-8", errors="replace")
    if not files:
        yield f"Licence: {crate.license}\nAuthors: {', '.join(crate.authors) or 'see the package'}\n"
    if crate.name in BUNDLED_CODE:
        yield (crate.folder / BUNDLED_CODE[crate.name]).read_text(encoding="utf-8")


def listed(crates: list[Crate]) -> str:
    """The content of the file."""
    users: dict[str, list[Crate]] = {}
    for crate in crates:
        for text in texts(crate):
            users.setdefault("\n".join(line.rstrip() for line in text.strip().splitlines()), []).append(crate)
    parts = [
        "The native module of duroxide contains code of these packages, under these licences.\n",
        PUBLIC_DOMAIN,
        *(f"{crate}\n" for crate in crates),
    ]
    for text, owners in users.items():
        names = ", ".join(f"{crate.name} {crate.version}" for crate in owners)
        parts.append(f"\n{'=' * 80}\n{names}\n{'-' * 80}\n{text}\n")
    return "".join(parts)


if __name__ == "__main__":
    FILE.write_text(listed(linked_crates()), encoding="utf-8")
