"""``python -m duroxide`` shows what is installed; ``migrate`` and ``tune`` maintain a PostgreSQL store."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

import duroxide

if TYPE_CHECKING:
    from collections.abc import Sequence

_URL = "postgresql://user:password@host:port/database; default: the environment variable DATABASE_URL"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of the command line; without a command, print the versions and the built-in stores."""
    chosen = _parser().parse_args(arguments)
    if chosen.command is None:
        print(f"duroxide {duroxide.__version__}")
        print(f"engine   {duroxide.engine_version}")
        print(f"sqlite   {duroxide.sqlite_version}")
        print("stores   memory, sqlite, postgres")
        return 0
    url = chosen.url or os.environ.get("DATABASE_URL")
    if not url:
        print("say where: python -m duroxide migrate postgresql://…, or set DATABASE_URL", file=sys.stderr)
        return 2
    try:
        return (
            _migrate(url, chosen.schema, check=chosen.check)
            if chosen.command == "migrate"
            else _tune(url, chosen.schema)
        )
    except duroxide.DuroxideError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m duroxide", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    migrate = commands.add_parser(
        "migrate", help="create the tables and functions of a PostgreSQL store, or bring them up to date"
    )
    migrate.add_argument(
        "--check", action="store_true", help="change nothing; exit with 1 if tables, functions or rights are missing"
    )
    tune = commands.add_parser(
        "tune", help="add the indexes of a PostgreSQL store, and set how often its busy tables are vacuumed"
    )
    for command in (migrate, tune):
        command.add_argument("url", nargs="?", help=_URL)
        command.add_argument("--schema", help="default: the schema of PostgresProvider.connect(url)")
    return parser


def _connect(url: str, schema: str | None, options: duroxide.PostgresOptions) -> duroxide.PostgresProvider:
    if schema is None:
        return duroxide.PostgresProvider.connect(url, options=options)
    return duroxide.PostgresProvider.connect_with_schema(url, schema, options=options)


def _migrate(url: str, schema: str | None, *, check: bool) -> int:
    options = duroxide.PostgresOptions(migrate="verify" if check else "apply")
    with _connect(url, schema, options) as provider:
        missing = provider._store.missing_rights() if check else []
        if missing:
            print("the role lacks rights; let the owner run:", *missing, sep="\n", file=sys.stderr)
            return 1
        print(f"up to date: {provider!r}")
    return 0


def _tune(url: str, schema: str | None) -> int:
    options = duroxide.PostgresOptions(migrate="verify")
    with _connect(url, schema, options) as provider:
        for change in provider.tune() or ["nothing was left to do"]:
            print(change)
    return 0


if __name__ == "__main__":
    sys.exit(main())
