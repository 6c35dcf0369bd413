"""``python -m duroxide.durabletask program.py ...`` runs a program in which ``import durabletask`` means this package."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from duroxide.durabletask import install

if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE = "usage: python -m duroxide.durabletask PROGRAM [ARGUMENT ...]"


def main(arguments: Sequence[str]) -> int:
    """Run a program.

    Args:
        arguments: Path of the program, and its arguments.

    Returns:
        The exit status, if the program does not choose one.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    program = arguments[0]
    install()
    sys.argv[:] = arguments
    # Python puts the folder of a program in front.
    sys.path.insert(0, str(Path(program).resolve().parent))
    runpy.run_path(program, run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
