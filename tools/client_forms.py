"""Writes the methods of the clients and handles that repeat others.

``start`` has eight overloads in four classes, and Python cannot give them a common type: they return ``Handle[T]``,
``AsyncHandle[T]`` or ``str`` for the same ``T``. The methods of asyncio repeat the blocking ones with ``async`` and
``await``. Each of them is written here from its one source, so that the signatures and the docstrings are the same:

- the overloads of ``Client.start`` and ``TransactionClient.start`` from the list in this file;
- the methods of ``AsyncClient``, ``AsyncHandle`` and ``AsyncTransactionClient`` from those of the blocking class.

Run it after a change of a source, then run ``make format``. A test fails as long as a copy is stale.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python/duroxide"
LETTERS = "abcde"


@dataclass(frozen=True)
class Copy:
    """Definitions of a class that are made of a text."""

    file: str
    class_name: str
    # The name of a method, or nothing for the docstring of the class.
    name: str
    make: Callable[[], str]
    is_overloads: bool = False

    def is_fresh(self) -> bool:
        """Whether the class has the definitions as they would be written."""
        made = ast.parse("class _:\n" + self.make()).body[0]
        return [ast.dump(each) for each in _body(made)] == [ast.dump(each) for each in self._definitions()]

    def write(self) -> None:
        """Put the definitions into the class, in place of the stale ones."""
        path = PACKAGE / self.file
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        first, last = _span(self._definitions())
        lines[first:last] = [self.make()]
        path.write_text("".join(lines), encoding="utf-8")

    def _definitions(self) -> list[ast.stmt]:
        definitions = list(_definitions(self.file, self.class_name, self.name))
        return [each for each in definitions if _is_overload(each)] if self.is_overloads else definitions


def _body(node: ast.stmt) -> list[ast.stmt]:
    if not isinstance(node, ast.ClassDef):
        raise TypeError("not a class")
    return node.body


def _definitions(file: str, class_name: str, name: str) -> Iterator[ast.stmt]:
    """Find the definitions of a name in a class: overloads, and the method; the docstring where no name is given."""
    module = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    body = next(_body(each) for each in module.body if isinstance(each, ast.ClassDef) and each.name == class_name)
    if not name:
        yield body[0]
    for each in body:
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) and each.name == name:
            yield each


def _is_overload(node: ast.stmt) -> bool:
    return any(ast.unparse(each) == "overload" for each in getattr(node, "decorator_list", ()))


def _span(definitions: list[ast.stmt]) -> tuple[int, int]:
    """Return the lines of definitions that stand together, the first one and the one after the last."""
    first, last = definitions[0], definitions[-1]
    decorators: list[ast.expr] = getattr(first, "decorator_list", [])
    start = min([first.lineno, *(each.lineno for each in decorators)])
    return start - 1, last.end_lineno or last.lineno


def start_overloads(returned: str, options: tuple[str, ...]) -> Callable[[], str]:
    """Make the overloads of ``start``.

    Args:
        returned: What it returns, with ``{}`` for the result of the orchestration.
        options: The options beside ``id``, as parameters.
    """

    def overload(*parameters: str, result: str = "T") -> str:
        return f"    @overload\n    def start(self, {', '.join(parameters)}) -> {returned.format(result)}: ...\n"

    def overloads() -> str:
        optional = ("*", "id: str | None = None", *options)
        texts = [overload("orchestration: Orchestration[P, T]", "/", "*arguments: P.args", "**named: P.kwargs")]
        for count in range(len(LETTERS) + 1):
            letters = LETTERS[:count]
            types = ", ".join((*letters.upper(), "T"))
            arguments = (f"{letter}: {letter.upper()}" for letter in letters)
            texts.append(overload(f"orchestration: Startable{count}[{types}]", *arguments, "/", *optional))
        texts.append(overload("orchestration: str", "input: object = None", "/", *optional, result="Any"))
        return "".join(texts)

    return overloads


def text_of(file: str, class_name: str, name: str) -> str:
    """Return the source of the definitions of a name."""
    first, last = _span(list(_definitions(file, class_name, name)))
    return "".join((PACKAGE / file).read_text(encoding="utf-8").splitlines(keepends=True)[first:last])


def asyncio_form(file: str, class_name: str, name: str) -> Callable[[], str]:
    """Make the form of a blocking method that is awaited.

    Args:
        file: File of the blocking class.
        class_name: The blocking class.
        name: The method, or nothing for the docstring of the class.
    """

    def make() -> str:
        text = text_of(file, class_name, name)
        for words, replacement in REPLACED.items():
            text = re.sub(rf"\b{words}", replacement, text)
        if name and name not in NOT_AWAITED:
            text = re.sub(rf"^    def {name}\(", f"    async def {name}(", text, flags=re.MULTILINE)
            text = re.sub(AWAITED, r"await \g<0>", text)
        return text

    return make


REPLACED = {
    r"Handle\b": "AsyncHandle",
    "psycopg, SQLAlchemy, Django or ``sqlite3``": "psycopg, asyncpg, SQLAlchemy or ``aiosqlite``",
}
# Methods that do not call the store.
NOT_AWAITED = {"handle"}
# What the methods call that is awaited in the other class.
AWAITED = r"\bself\.(?:_client\.\w+|wait|start_orchestration|_start_and_compare|_add_causes)\("

CLIENT = ("_client/client.py", "Client")
HANDLE = ("_client/handles.py", "Handle")
TRANSACTION_CLIENT = ("_transactions/client.py", "TransactionClient")
VERSION = "version: str | None = None"
STORE_OPTIONS = (
    "if_exists: IfExists | None = None",
    "at: datetime | int | None = None",
    "delay: timedelta | int | None = None",
)

COPIES = [
    Copy(*CLIENT, "start", start_overloads("Handle[{}]", (VERSION, *STORE_OPTIONS)), is_overloads=True),
    Copy(*TRANSACTION_CLIENT, "start", start_overloads("str", (VERSION,)), is_overloads=True),
    *(
        Copy("_client/async_client.py", "AsyncClient", name, asyncio_form(*CLIENT, name))
        for name in ("start", "handle")
    ),
    *(
        Copy("_client/async_handles.py", "AsyncHandle", name, asyncio_form(*HANDLE, name))
        for name in ("result", "wait", "status", "cancel", "restart", "raise_event", "enqueue", "history")
    ),
    *(
        Copy("_transactions/client.py", "AsyncTransactionClient", name, asyncio_form(*TRANSACTION_CLIENT, name))
        for name in ("", "start")
    ),
]


def main() -> None:
    """Write what is stale."""
    for each in COPIES:
        if not each.is_fresh():
            each.write()
            sys.stderr.write(f"written: {each.class_name}.{each.name or '__doc__'}\n")


if __name__ == "__main__":
    main()
