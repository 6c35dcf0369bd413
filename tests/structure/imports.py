"""Reads which modules of the package import which others, from the sources alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "python"
PACKAGE = "duroxide"


@dataclass(frozen=True)
class Import:
    """One module imports another; ``for_types`` if only the type checkers see it."""

    importer: str
    imported: str
    for_types: bool
    line: int


def modules() -> dict[str, Path]:
    """Return the modules of the package, by their dotted names."""
    return {_module_name(path): path for path in sorted((SOURCES / PACKAGE).rglob("*.py"))}


def imports_of(module: str, path: Path, known: frozenset[str]) -> Iterator[Import]:
    """Return the modules among ``known`` that ``module`` imports, at any depth of its code."""
    yield from _imports_in(ast.parse(path.read_text(encoding="utf-8")), module, known, for_types=False)


def circles(imports: dict[str, set[str]]) -> set[frozenset[str]]:
    """Return the sets of modules, or files, of which each imports all others, directly or through others."""
    reached = {importer: set(imported) for importer, imported in imports.items()}
    for middle in imports:
        for others in reached.values():
            if middle in others:
                others.update(reached[middle])
    together = {
        module: frozenset(other for other in reached[module] if module in reached.get(other, ())) for module in imports
    }
    return {members for members in together.values() if len(members) > 1}


def _module_name(path: Path) -> str:
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports_in(node: ast.AST, module: str, known: frozenset[str], *, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom):
            if child.level:
                raise ValueError(f"{module}:{child.lineno} has a relative import; write the full name of the module")
            for name in child.names:
                # `from package import module` imports the module, `from module import name` the module that has the
                # name.
                full = f"{child.module}.{name.name}"
                imported = full if full in known else str(child.module)
                if imported in known:
                    yield Import(module, imported, for_types, child.lineno)
        elif isinstance(child, ast.Import):
            for name in child.names:
                if name.name in known:
                    yield Import(module, name.name, for_types, child.lineno)
        else:
            guarded = for_types or (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING")
            yield from _imports_in(child, module, known, for_types=guarded)
