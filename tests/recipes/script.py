"""A plain script: kill it at any time and run it again, it continues where it was."""

from __future__ import annotations

import sys

import orders

from duroxide import Runtime, SqliteProvider


def main(path: str, order_id: str) -> None:
    with SqliteProvider.open(path) as provider, Runtime(provider, functions=[orders]) as runtime:
        order = {"item": "lamp", "total": 40}
        # Attaches to the order if an earlier run has started it.
        handle = runtime.client.start(orders.fulfil, order, id=order_id)
        handle.raise_event("packed")
        print(", ".join(handle.result()))


if __name__ == "__main__":
    main(*sys.argv[1:])
