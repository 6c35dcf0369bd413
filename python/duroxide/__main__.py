"""``python -m duroxide`` says what is installed."""

from __future__ import annotations

import duroxide


def main() -> None:
    """Print the versions of the package and of its engine, and the stores that are built in."""
    print(f"duroxide {duroxide.__version__}")
    print(f"engine   {duroxide.engine_version}")
    print("stores   memory, sqlite, postgres")


if __name__ == "__main__":
    main()
