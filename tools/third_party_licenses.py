"""Writes THIRD-PARTY-LICENSES: the licences of the packages that the wheel's native module links.

``python tools/third_party_licenses.py`` writes the file again after a change of Cargo.lock.
"""

from __future__ import annotations

from collections.abc import Iterator

from linked_packages import ROOT, Package, linked_packages

FILE = ROOT / "THIRD-PARTY-LICENSES"
LICENSE_FILES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE", "COPYRIGHT")
# Where a package offers a choice, this file says enough.
CHOSEN = ("LICENSE-MIT", "LICENSE-MIT.md", "LICENSE-MIT.txt", "license-mit")
PUBLIC_DOMAIN = "The library SQLite is in the public domain.\n"


def texts(package: Package) -> Iterator[str]:
    """The texts of a package's licences: one where the package offers a choice that has it."""
    if package.within is not None:
        yield from (file.read_text(encoding="utf-8") for file in package.license_files)
        return
    files = sorted(file for file in package.folder.iterdir() if file.name.upper().startswith(LICENSE_FILES))
    files = [file for file in files if file.is_file()]
    chosen = [file for file in files if file.name in CHOSEN]
    for file in chosen[:1] if chosen and " AND " not in package.license else files:
        yield file.read_text(encoding="utf-8", errors="replace")
    if not files:
        yield f"Licence: {package.license}\nAuthors: {', '.join(package.authors) or 'see the package'}\n"


def listed(packages: list[Package]) -> str:
    """The content of the file."""
    users: dict[str, list[Package]] = {}
    for package in packages:
        for text in texts(package):
            users.setdefault("\n".join(line.rstrip() for line in text.strip().splitlines()), []).append(package)
    parts = [
        "The native module of duroxide contains code of these packages, under these licences.\n",
        PUBLIC_DOMAIN,
        *(f"{package}\n" for package in packages),
    ]
    for text, owners in users.items():
        names = ", ".join(f"{package.name} {package.version}" for package in owners)
        parts.append(f"\n{'=' * 80}\n{names}\n{'-' * 80}\n{text}\n")
    return "".join(parts)


if __name__ == "__main__":
    FILE.write_text(listed(linked_packages()), encoding="utf-8")
