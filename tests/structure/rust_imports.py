"""The imports among the Rust files of this project, read from their text."""

from __future__ import annotations

import re
from pathlib import Path

from structure.imports import ROOT

# Each crate by the folder of its sources. The last one is the binding.
CRATES = {
    "native_tls": ROOT / "crates/native_tls/src",
    "store": ROOT / "crates/store/src",
    "engine_adapter": ROOT / "crates/engine_adapter/src",
    "binding": ROOT / "src",
}

USE = re.compile(r"^\s*(?:pub(?:\([^)]*\))? )?use ((?:crate|super|self)\b[^;]*);", re.MULTILINE)
INLINE = re.compile(r"(?<![\w:$])(?:crate|super)(?:::\w+)+")
TESTS = re.compile(r"^#\[cfg\((?:test|all\(test,.*?\))\)\]\n(?:pub )?mod \w+ \{.*?^\}", re.MULTILINE | re.DOTALL)


def module_of(folder: Path, path: Path) -> tuple[str, ...]:
    """Return the module that a file is, as its path in the crate."""
    parts = path.relative_to(folder).with_suffix("").parts
    return parts[:-1] if parts[-1] in {"mod", "lib", "main"} else parts


def is_test(path: Path) -> bool:
    return "tests" in path.parts or path.stem in {"tests", "testing", "conformance"}


def flattened(tree: str) -> list[str]:
    """Return the single paths of one ``use`` tree, such as ``a::{b, c::d}``."""
    tree = re.sub(r"\s+", " ", tree).strip()
    start = tree.find("{")
    if start < 0:
        return [tree.split(" as ")[0].strip()]
    prefix, branches, depth, current = tree[:start], [], 0, ""
    for character in tree[start + 1 : tree.rindex("}")]:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            branches.append(current)
            current = ""
        else:
            current += character
    branches.append(current)
    return [prefix + path for branch in branches if branch.strip() for path in flattened(branch)]


def absolute(path: str, module: tuple[str, ...]) -> tuple[str, ...]:
    parts = [part.strip() for part in path.split("::")]
    if parts[0] == "crate":
        return tuple(parts[1:])
    base = list(module)
    while parts and parts[0] in {"super", "self"}:
        if parts.pop(0) == "super":
            base = base[:-1]
    return (*base, *parts)


def imports_of_crate(folder: Path) -> dict[str, set[str]]:
    """Return for each file of a crate the files that it names, tests left out."""
    files = {module_of(folder, path): path for path in sorted(folder.rglob("*.rs")) if not is_test(path)}
    imports: dict[str, set[str]] = {}
    for module, path in files.items():
        text = TESTS.sub("", path.read_text(encoding="utf-8"))
        text = "\n".join(line.partition("//")[0] for line in text.splitlines())
        paths = [each for tree in USE.findall(text) for each in flattened(tree)] + INLINE.findall(USE.sub("", text))
        named = set()
        for each in paths:
            parts = absolute(each, module)
            owner = next((parts[:end] for end in range(len(parts), -1, -1) if parts[:end] in files), None)
            if owner is not None and owner != module:
                named.add(str(files[owner].relative_to(ROOT)))
        imports[str(path.relative_to(ROOT))] = named
    return imports
