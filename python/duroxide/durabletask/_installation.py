"""Makes ``import durabletask`` mean this package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

_THEIRS = "durabletask"
_OURS = "duroxide.durabletask"


def install() -> None:
    """Let ``import durabletask`` import this package, in the whole process. Call it before the first such import.

    Raises:
        ImportError: The package ``durabletask`` has been imported already.
    """
    imported = sys.modules.get(_THEIRS)
    if imported is not None and imported.__name__ != _OURS:
        raise ImportError(
            f"the package {_THEIRS} has been imported already: call {_OURS}.install() before the first import of it"
        )
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds the modules of ``durabletask`` in this package."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname != _THEIRS and not fullname.startswith(f"{_THEIRS}."):
            return None
        ours = f"duroxide.{fullname}"
        # Another finder, such as that of the real package, must not find a module that this package lacks.
        if find_spec(ours) is None:
            raise ModuleNotFoundError(f"this version of {_OURS} has no module {fullname!r}", name=fullname)
        return ModuleSpec(fullname, _Loader(ours), is_package=True)


class _Loader(Loader):
    """Loads a module under its second name, so that both names mean one module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def exec_module(self, module: ModuleType) -> None:
        # The import returns what stands here afterwards.
        sys.modules[module.__name__] = importlib.import_module(self._name)
