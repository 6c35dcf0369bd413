"""Programs written for ``durabletask``, on the stores and the engine of this package.

After ``install()``, ``import durabletask`` imports this package; ``python -m duroxide.durabletask program.py`` runs a whole
program so.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from duroxide.durabletask._installation import install

if TYPE_CHECKING:
    from duroxide.durabletask.worker import ConcurrencyOptions

__all__ = ["PACKAGE_NAME", "ConcurrencyOptions", "install"]

PACKAGE_NAME = "durabletask"
"""Name of the package whose programs run here."""

# The modules that export the names of the package, which are imported at first use.
_EXPORTS = {"ConcurrencyOptions": "worker"}
_MODULES = frozenset({"serialization", "task", "worker"})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
