"""The wheel carries the licences of the code that it links."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools/third_party_licenses.py"


def test_the_licences_of_all_linked_crates_are_in_the_file() -> None:
    specification = importlib.util.spec_from_file_location("third_party_licenses", TOOL)
    assert specification is not None
    assert specification.loader is not None
    tool = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = tool
    specification.loader.exec_module(tool)
    lines = set((ROOT / "THIRD-PARTY-LICENSES").read_text().splitlines())
    # The default features: what a build on this machine has downloaded already.
    missing = [crate for crate in tool.linked_crates("extension-module") if str(crate) not in lines]
    assert missing == [], "run `python tools/third_party_licenses.py`"
