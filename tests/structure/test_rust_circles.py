"""The circles among the Rust files: only the accepted ones."""

from __future__ import annotations

from structure.imports import circles
from structure.rust_imports import CRATES, imports_of_crate

STORE = "crates/store/src"

# Files that name each other, each with the reason.
ACCEPTED = (
    # A file of an earlier version is upgraded while its schema is checked, and becomes one of this schema.
    {f"{STORE}/sqlite/file/schema/mod.rs", f"{STORE}/sqlite/file/upgrade/mod.rs"},
    # A transaction belongs to its inbox, and the inbox opens it.
    {f"{STORE}/sqlite/inbox/database.rs", f"{STORE}/sqlite/inbox/transaction.rs"},
)


def test_rust_files_name_each_other_only_in_the_accepted_circles() -> None:
    found = {circle for folder in CRATES.values() for circle in circles(imports_of_crate(folder))}
    assert found == {frozenset(circle) for circle in ACCEPTED}
