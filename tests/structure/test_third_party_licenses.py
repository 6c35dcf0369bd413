"""The wheel names the code of others that it links: its licences, and a bill of materials."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import duroxide._native
from bill_of_materials import own_version
from duroxide import SqliteProvider
from linked_packages import EVERY_FEATURE, FEATURES, linked_packages, tree

ROOT = Path(__file__).parents[2]
LICENSES = (ROOT / "THIRD-PARTY-LICENSES").read_text()
BILL = json.loads((ROOT / "duroxide.cyclonedx.json").read_text())
COMPONENTS = {(entry["name"], entry["version"]) for entry in BILL["components"]}

# They come with SQLx, and no build of this package compiles them.
NEVER_LINKED = ("rsa", "sqlx-mysql", "sqlx-sqlite")


def test_the_licences_of_all_linked_crates_are_in_the_file() -> None:
    lines = set(LICENSES.splitlines())
    # The default features: what a build on this machine has downloaded already.
    missing = [str(package) for package in linked_packages(FEATURES) if str(package) not in lines]
    assert missing == [], "run `python tools/third_party_licenses.py`"


def test_the_bill_of_materials_names_what_the_file_of_licences_names() -> None:
    listed = re.findall(r"^(\S+) (\S+) \((.+?)\)(?:, C code within (\S+))?$", LICENSES, re.MULTILINE)
    assert len(listed) > 150
    licenses = {(entry["name"], entry["version"]): entry["licenses"][0]["expression"] for entry in BILL["components"]}
    assert licenses == {(name, version): terms for name, version, terms, _ in listed}
    assert {name for name, _, _, within in listed if within} == {"SQLite", "mimalloc", "OpenSSL"}
    assert BILL["metadata"]["component"]["version"] == own_version(), "run `python tools/bill_of_materials.py`"


def test_the_bill_of_materials_names_each_crate_that_the_compiled_module_shows() -> None:
    module = Path(duroxide._native.__file__).read_bytes()
    # Messages of panics name the files of the crates.
    shown = {
        (name.decode(), version.decode())
        for name, version in re.findall(rb"registry/src/[^/]+/([\w-]+?)-(\d+\.\d+\.\d+[\w.+-]*)/", module)
    }
    assert shown - COMPONENTS == set(), "run `python tools/bill_of_materials.py`"


@pytest.mark.parametrize("name", NEVER_LINKED)
def test_a_crate_that_no_build_compiles_is_not_named(name: str) -> None:
    assert name not in {found for found, _ in COMPONENTS}
    assert name not in {found for found, _ in tree("normal,build", FEATURES)}


def test_the_versions_of_c_libraries_are_those_that_run(tmp_path: Path) -> None:
    versions = {entry["name"]: entry["version"] for entry in BILL["components"] if entry["purl"].startswith("pkg:gen")}
    assert set(versions) == {"SQLite", "mimalloc", "OpenSSL"}
    command = [sys.executable, "-c", "import duroxide._native"]
    verbose = os.environ | {"MIMALLOC_VERBOSE": "1"}
    loaded = subprocess.run(command, check=True, capture_output=True, text=True, env=verbose)
    assert f"v{versions['mimalloc']} " in loaded.stdout + loaded.stderr
    # SQLite writes its version into the header of a file.
    SqliteProvider.open(tmp_path / "store.db").close()
    (number,) = struct.unpack_from(">I", (tmp_path / "store.db").read_bytes(), 96)
    assert versions["SQLite"] == f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"


def test_the_wheel_carries_one_bill_of_materials_and_the_licences() -> None:
    installed = importlib.metadata.files("duroxide") or []
    carried = {file.name: file for file in installed if file.parent.name in {"sboms", "licenses"}}
    assert sorted(carried) == ["LICENSE", "THIRD-PARTY-LICENSES", "duroxide.cyclonedx.json"]
    assert carried["THIRD-PARTY-LICENSES"].read_text() == LICENSES
    assert json.loads(carried["duroxide.cyclonedx.json"].read_text()) == BILL


def test_only_openssl_depends_on_the_features_of_the_build() -> None:
    optional = {entry["name"] for entry in BILL["components"] if entry["scope"] == "optional"}
    assert optional == {"OpenSSL", "openssl-src"}, EVERY_FEATURE
