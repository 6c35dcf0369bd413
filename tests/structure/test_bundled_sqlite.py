"""The package links a SQLite with the security fixes that the stores need, and a source distribution can build it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import duroxide

ROOT = Path(__file__).parents[2]
REPLACEMENT = ROOT / "crates/no_sqlx_sqlite/src/lib.rs"
# From this version on, SQLite has the fixes of CVE-2025-6965 and of the reset of the write-ahead log.
FIXED_IN = (3, 51, 3)


def test_the_sqlite_in_the_package_has_the_fixes_of_damaged_logs_and_of_overflows() -> None:
    assert tuple(int(part) for part in duroxide.sqlite_version.split(".")) >= FIXED_IN


def test_the_command_line_prints_the_version_of_sqlite() -> None:
    printed = subprocess.run([sys.executable, "-m", "duroxide"], check=True, capture_output=True, text=True).stdout
    assert f"sqlite   {duroxide.sqlite_version}" in printed.splitlines()


def test_a_dependency_that_switches_on_the_replaced_package_does_not_compile(tmp_path: Path) -> None:
    command = ["rustc", "--crate-type=lib", "--emit=metadata", "-o", str(tmp_path / "library"), str(REPLACEMENT)]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    assert compiled.returncode != 0
    assert "a dependency switches on SQLite in `sqlx`" in compiled.stderr


def test_a_source_distribution_contains_the_packages_that_cargo_needs_for_the_lock_file() -> None:
    [patches] = re.findall(r"^\[patch\.crates-io\]\n((?:.+\n)+)", (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    folders = re.findall(r'path = "(.+?)"', patches)
    included = re.findall(r'path = "(.+?)", format = "sdist"', (ROOT / "pyproject.toml").read_text())
    # Without them, maturin includes only the packages that another one depends on.
    assert included == [f"{folder}/**/*" for folder in folders]
