"""The crates of a build come from the registry, and their licences allow a wheel under the MIT licence."""

from __future__ import annotations

import re
from pathlib import Path

from linked_packages import FEATURES, linked_packages

ROOT = Path(__file__).parents[2]
OUR_OWN = (
    "duroxide-python",
    "duroxide-python-engine-adapter",
    "duroxide-python-store",
    "rust_handlers",
    # Replaced by crates/native_tls.
    "native-tls",
    # Replaced by crates/no_sqlx_sqlite, which links nothing.
    "sqlx-sqlite",
)

# Their texts go into the wheel, and they ask for no more.
PERMISSIVE = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "blessing",
}


def test_each_crate_comes_from_the_registry_with_a_checksum() -> None:
    entries = (ROOT / "Cargo.lock").read_text().split("[[package]]")[1:]
    fields = [dict(re.findall(r'^(\w+) = "(.*)"$', entry, re.MULTILINE)) for entry in entries]
    foreign = [entry for entry in fields if entry["name"] not in OUR_OWN]
    assert len(foreign) > 150
    others = [
        entry["name"] for entry in foreign if not re.match(r"registry\+.*crates\.io-index$", entry.get("source", ""))
    ]
    assert others == []
    assert [entry["name"] for entry in foreign if not entry.get("checksum")] == []


def test_each_licence_of_linked_code_is_permissive() -> None:
    def allows(terms: str) -> bool:
        """Whether one alternative of the terms has permissive licences alone."""
        plain = terms.replace(" WITH LLVM-exception", "")
        return all(
            any(choice.strip(" ()") in PERMISSIVE for choice in part.split(" OR ")) for part in plain.split(" AND ")
        )

    packages = linked_packages(FEATURES)
    assert [str(package) for package in packages if not allows(package.license)] == []
