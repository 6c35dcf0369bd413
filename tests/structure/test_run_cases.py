"""``make cases`` runs each program of a folder, and fails if one did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUNNER = Path(__file__).parents[2] / "tools" / "run_cases.py"


def run_cases(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUNNER), str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_program_that_fails_is_shown_with_its_output(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("print('fine')")
    (tmp_path / "bad.py").write_text("raise SystemExit('it is broken')")

    done = run_cases(tmp_path)

    assert done.returncode == 1
    assert "it is broken" in done.stdout
    assert "fine" not in done.stdout
    assert done.stdout.splitlines()[-1] == "1 failed: bad"


def test_what_programs_import_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "_run.py").write_text("raise SystemExit(1)")
    (tmp_path / "helper.py").write_text("VALUE = 1\nif VALUE == 2:\n    raise SystemExit(1)")
    (tmp_path / "good.py").write_text("import helper\nassert helper.VALUE == 1")

    done = run_cases(tmp_path)

    assert [line.split()[0] for line in done.stdout.splitlines()] == ["good", "all"]


def test_a_program_that_lacks_something_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "needy.py").write_text("raise SystemExit(77)")

    done = run_cases(tmp_path)

    assert done.returncode == 0
    assert "left out" in done.stdout


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    (tmp_path / "hung.py").write_text("import time\ntime.sleep(600)")

    done = run_cases(tmp_path, "--seconds", "0.5")

    assert done.returncode == 1
    assert "hung" in done.stdout
