"""Work that kills its process is given up, and the work beside it is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crash.conftest import Workers
from crash.suspects import EXIT_CODE, OPTIONS

pytestmark = [pytest.mark.alone, pytest.mark.slow]

TESTS = Path(__file__).parents[1]


# The orchestration catches the failure of an activity that is given up. A turn that is given up fails its instance.
@pytest.mark.parametrize(("kind", "end"), [("activity", "PoisonMessageError"), ("turn", "Failed")])
def test_harmless_work_beside_a_killer_is_done_in_the_end(kind: str, end: str, workers: Workers) -> None:
    command = [sys.executable, "-m", "crash.suspects", json.dumps(workers.address), kind]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    for _ in range(2 * OPTIONS.max_attempts):
        process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=90)
        if process.returncode != EXIT_CODE:
            break
    assert process.stdout.split() == ["fine", end], process.stderr
