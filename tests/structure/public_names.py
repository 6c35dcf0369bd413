"""Describes every public name of the package with its signature, from the sources and the stub alone.

The text is the same on every Python, since no source is run. Run as a program, this module writes the text into
``public_names.txt``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("public_names.txt")
MODULES = (
    "duroxide",
    "duroxide.exceptions",
    "duroxide.durabletask",
    "duroxide.durabletask.azuremanaged.client",
    "duroxide.durabletask.azuremanaged.worker",
    "duroxide.durabletask.client",
    "duroxide.durabletask.serialization",
    "duroxide.durabletask.task",
    "duroxide.durabletask.testing",
    "duroxide.durabletask.worker",
)
HEADER = """\
# Every public name of the package, with its signature. A change of this file is a change of the public interface.
# Written by: python tests/structure/public_names.py
"""


def public_names() -> str:
    """Return the text of the golden file."""
    package = griffe.load("duroxide", search_paths=[ROOT / "python"], allow_inspection=False, resolve_aliases=True)
    description = _Description(package)
    lines = [HEADER]
    for module in MODULES:
        for name in sorted(_exported(_module(package, module))):
            lines += [_with_labels_first(f"{module}.{line}") for line in description.of_export(module, name)]
            lines.append("")
    lines += ["# Types that the signatures name, and that the package does not export", ""]
    lines += description.of_private_types()
    return "\n".join(lines) + "\n"


def _module(package: Any, name: str) -> Any:
    return package if name == "duroxide" else package[name.removeprefix("duroxide.")]


class _Description:
    def __init__(self, package: Any) -> None:
        self._package = package
        self._exported = {self._find("duroxide", name).path for name in _exported(package)}
        self._private: dict[str, Any] = {}

    def of_export(self, module: str, name: str) -> Iterator[str]:
        """Describe one exported name, from the name on."""
        found = self._find(module, name)
        if module != "duroxide" and found.path in self._exported:
            yield f"{name}: as duroxide.{name}"
        elif found.is_class and found.name != name:
            yield f"{name} = {found.name}"
        elif found.is_class:
            yield self._of_class(name, found)
            yield from (f"{name}.{line}" for line in self._of_members(found))
        elif found.is_function:
            yield from self._of_function(name, found, found.overloads or [])
        else:
            yield self._of_attribute(name, found)

    def of_private_types(self) -> list[str]:
        """Describe the types that were named so far, and those that these name."""
        lines: dict[str, list[str]] = {}
        while left := sorted(set(self._private) - set(lines)):
            for path in left:
                found = self._private[path]
                lines[path] = [f"{found.name} = {self._noted(found.value)}"] if found.is_attribute else []
                if found.is_class:
                    lines[path] = [
                        f"{found.name}: class",
                        *(f"{found.name}.{each}" for each in self._of_members(found)),
                    ]
        return sorted(_with_labels_first(line) for each in lines.values() for line in each)

    def _find(self, module: str, name: str) -> Any:
        found = _module(self._package, module)[name]
        return found.final_target if found.is_alias else found

    def _of_class(self, name: str, kind: Any) -> str:
        """Name a class with its bases, without those of the package's own that are not exported."""
        private = {base.name for base in self._private_bases(kind)}
        bases = ", ".join(str(base) for base in kind.bases if str(base) not in private)
        return f"{name}({bases}): class" if bases else f"{name}: class"

    def _of_members(self, kind: Any) -> list[str]:
        """Describe the public members of a class and of its bases that are not exported."""
        lines: dict[str, list[str]] = {}
        for owner in (kind, *self._private_bases(kind)):
            for name in sorted({*owner.members, *(each for each, found in owner.overloads.items() if found)}):
                if name not in lines and (not name.startswith("_") or name in _SPOKEN):
                    lines[name] = list(self._of_member(name, owner))
        return [line for name in sorted(lines) for line in lines[name]]

    def _private_bases(self, kind: Any) -> Iterator[Any]:
        for base in kind.resolved_bases:
            if base.path not in self._exported:
                yield base
                yield from self._private_bases(base)

    def _of_member(self, name: str, owner: Any) -> Iterator[str]:
        found = owner.members.get(name)
        overloads = owner.overloads.get(name) or getattr(found, "overloads", None) or []
        if found is None or found.is_function:
            yield from self._of_function(name, found, overloads)
        elif "property" in found.labels:
            yield f"{name}: {self._noted(found.annotation)} (property)"
        else:
            awaited = re.fullmatch(r"awaited\((\w+)\.(\w+)\)", str(found.value))
            if awaited is None:
                yield self._of_attribute(name, found)
            else:
                yield f"async {name}: as {awaited[1]}.{awaited[2]}"

    def _of_function(self, name: str, function: Any, overloads: list[Any]) -> Iterator[str]:
        for each in overloads or [function]:
            kind = "".join(f"{label} " for label in ("classmethod", "staticmethod", "async") if label in each.labels)
            for parameter in each.parameters:
                self._noted(parameter.annotation)
            self._noted(each.returns)
            # A method that describes a call is decorated into one that returns what the call answers.
            yield kind + re.sub(r" -> Call\[(.*)\]$", r" -> \1", each.signature(name=name))

    def _of_attribute(self, name: str, found: Any) -> str:
        annotation = f": {self._noted(found.annotation)}" if found.annotation is not None else ""
        # An attribute that only the constructor assigns has no value of the class.
        has_value = found.value is not None and found.labels != {"instance-attribute"}
        return f"{name}{annotation}" + (f" = {self._noted(found.value)}" if has_value else "")

    def _noted(self, expression: Any) -> str:
        """Return the source text, and remember the private types of the package that it names."""
        names = expression.iterate(flat=True) if isinstance(expression, griffe.Expr) else ()
        for each in names:
            if isinstance(each, griffe.ExprName) and each.canonical_path.startswith("duroxide."):
                self._note(each.canonical_path)
        return str(expression)

    def _note(self, path: str) -> None:
        try:
            found: Any = self._package[path.removeprefix("duroxide.")]
        except KeyError:
            return  # a parameter of a type
        found = found.final_target if found.is_alias else found
        if found.path in self._exported or found.name == "Call":
            return
        is_alias = found.is_attribute and not re.match(r"(TypeVar|ParamSpec)\(", str(found.value))
        is_protocol = found.is_class and any(str(base).startswith("Protocol") for base in found.bases)
        if is_alias or is_protocol:
            self._private[found.path] = found


# Methods that a program calls by syntax of Python's.
_SPOKEN = {"__init__", "__aenter__", "__await__", "__call__", "__enter__", "__iter__"}


def _with_labels_first(line: str) -> str:
    return re.sub(r"^(\S+\.)((?:classmethod |staticmethod |async )+)", r"\2\1", line)


def _exported(module: Any) -> list[str]:
    return [str(name) for name in module.exports or ()]


if __name__ == "__main__":
    GOLDEN.write_text(public_names(), encoding="utf-8")
