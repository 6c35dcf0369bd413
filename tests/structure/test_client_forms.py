"""The methods of clients and handles that repeat others are as ``tools/client_forms.py`` writes them."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

from structure.imports import ROOT


def load_tool() -> Any:
    spec = importlib.util.spec_from_file_location("client_forms", ROOT / "tools/client_forms.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("copy", load_tool().COPIES, ids=lambda copy: f"{copy.class_name}.{copy.name or '__doc__'}")
def test_a_copy_is_as_its_source_says(copy: Any) -> None:
    assert copy.is_fresh(), "run: python tools/client_forms.py && make format"
