"""Writes duroxide.cyclonedx.json, the bill of materials that the wheel carries: the packages that its native module links.

``python tools/bill_of_materials.py`` writes the file again after a change of Cargo.lock or of the version.
"""

from __future__ import annotations

import json
from typing import Any

from linked_packages import EVERY_FEATURE, FEATURES, OUR_OWN, ROOT, Package, linked_packages, tree

FILE = ROOT / "duroxide.cyclonedx.json"
# Vendor and name under which lists of vulnerabilities have the C libraries.
VENDORS = {"SQLite": "sqlite:sqlite", "mimalloc": "microsoft:mimalloc", "OpenSSL": "openssl:openssl"}


def address(package: Package) -> str:
    """The package URL."""
    if package.within is None:
        return f"pkg:cargo/{package.name}@{package.version.replace('+', '%2B')}"
    return f"pkg:generic/{VENDORS[package.name].partition(':')[2]}@{package.version}"


def component(package: Package, *, always: bool) -> dict[str, Any]:
    """The entry of one package."""
    entry = {
        "type": "library",
        "bom-ref": address(package),
        "name": package.name,
        "version": package.version,
        "scope": "required" if always else "optional",
        "licenses": [{"expression": package.license}],
        "purl": address(package),
    }
    if package.within is not None:
        entry["cpe"] = f"cpe:2.3:a:{VENDORS[package.name]}:{package.version}:*:*:*:*:*:*:*"
        entry["description"] = f"C code within the crate {package.within}."
    return entry


def own_version() -> str:
    """The version of this package."""
    (version,) = (version for name, version in tree("normal", FEATURES) if name == OUR_OWN)
    return version


def bill() -> dict[str, Any]:
    """The bill of materials. A package that only some wheels link is optional: OpenSSL where it is compiled along."""
    packages = linked_packages(EVERY_FEATURE)
    required = {package.key for package in linked_packages(FEATURES)}
    addresses = {package.key: address(package) for package in packages}
    own = f"pkg:pypi/duroxide@{own_version()}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": own,
                "name": "duroxide",
                "version": own_version(),
                "licenses": [{"expression": "MIT"}],
                "purl": own,
            }
        },
        "components": [component(package, always=package.key in required) for package in packages],
        "dependencies": [
            {"ref": own, "dependsOn": [address(package) for package in packages if package.within is None]},
            *(
                {
                    "ref": address(package),
                    "dependsOn": sorted(addresses[key] for key in package.needs if key in addresses),
                }
                for package in packages
            ),
        ],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(bill(), indent=1) + "\n", encoding="utf-8")
