"""The package in forked children, in subinterpreters, and in programs that lay it out in another way."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import msgspec
import pytest

import duroxide

PACKAGES = [Path(str(module.__file__)).parent for module in (duroxide, msgspec)]


def run(program: str, folder: Path, *options: str) -> tuple[str, str]:
    """The output and the errors of a program, which must end with 0."""
    file = folder / "program.py"
    file.write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, *options, str(file)], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_the_import_starts_no_thread(tmp_path: Path) -> None:
    output, _ = run("import os, duroxide; print(len(os.listdir('/proc/self/task')))", tmp_path)
    assert output == "1\n"


FORKED_AFTER_IMPORT = """
import logging, multiprocessing, sys
import duroxide
from duroxide import Runtime, SqliteProvider, activity, orchestration

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(message)s")

@activity
def work(number: int) -> int:
    duroxide.context().trace_info("in the activity")
    return number

@orchestration
async def flow(number: int) -> int:
    duroxide.context().trace_warn("in the orchestration")
    return await work(number)

def child():
    with SqliteProvider.in_memory() as provider, Runtime(provider, functions=[work, flow]) as runtime:
        runtime.client.start(flow, 1).result(20)

process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
sys.exit(process.exitcode)
"""


def test_the_logs_of_a_child_that_was_forked_after_the_import_arrive(tmp_path: Path) -> None:
    output, _ = run(FORKED_AFTER_IMPORT, tmp_path)
    assert output.splitlines() == ["duroxide.orchestration in the orchestration", "duroxide.activity in the activity"]


FORKED_AFTER_USE = """
import os, sys
from duroxide import Client, SqliteProvider
with SqliteProvider.in_memory() as provider:
    Client(provider).get_status("unknown")
child = os.fork()
if child == 0:
    try:
        SqliteProvider.in_memory()
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_child_of_a_parent_that_has_used_the_package_is_told_what_to_do(tmp_path: Path) -> None:
    output, _ = run(FORKED_AFTER_USE, tmp_path)
    assert "has used duroxide and then forked this process" in output
    assert "fork before the first use, or start the child with multiprocessing's 'spawn'" in output


FORK_IN_AN_ACTIVITY = """
import os, sys
from duroxide import Runtime, SqliteProvider, activity, orchestration

@activity
{style} work() -> list[int]:
    child = os.fork()
    if child == 0:
        {end}
        return [0]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]

@orchestration
async def flow() -> list[int]:
    return await work()

with SqliteProvider.in_memory() as provider, Runtime(provider, functions=[work, flow]) as runtime:
    print(runtime.client.start(flow).result(20))
"""


@pytest.mark.parametrize("style", ["def", "async def"])
@pytest.mark.parametrize(
    ("end", "code"), [("pass", 0), ("sys.exit(3)", 3), ("raise ValueError('in the child')", 1), ("os._exit(4)", 4)]
)
def test_a_child_that_an_activity_forks_ends_at_the_end_of_the_activity(
    tmp_path: Path, style: str, end: str, code: int
) -> None:
    program = FORK_IN_AN_ACTIVITY.replace("{style}", style).replace("{end}", end)
    output, errors = run(program, tmp_path, "-W", "ignore::DeprecationWarning")
    assert output == f"[{code}]\n"
    assert ("in the child" in errors) is (code == 1)


SUBINTERPRETER = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
one = interpreters.create("legacy") if sys.version_info >= (3, 13) else interpreters.create(isolated=False)
interpreters.run_string(one, '''
try:
    import duroxide
except ImportError as error:
    print(error, flush=True)
''')
"""


def test_a_subinterpreter_refuses_the_import(tmp_path: Path) -> None:
    output, _ = run(SUBINTERPRETER, tmp_path)
    assert "duroxide works in the main interpreter alone" in output


def test_the_package_needs_no_metadata(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(package, tmp_path / package.name)
    site = sysconfig.get_path("purelib")
    output, _ = run(
        f"import sys; sys.path = [each for each in sys.path if not each.startswith({site!r})]\n"
        "import duroxide; print(duroxide.__version__)",
        tmp_path,
    )
    assert output == f"{duroxide.__version__}\n"


def test_a_copy_under_another_name_says_how_to_import_it(tmp_path: Path) -> None:
    shutil.copytree(PACKAGES[0], tmp_path / "vendored" / "duroxide")
    output, _ = run(
        "try:\n    import vendored.duroxide\nexcept ImportError as error:\n    print(error)",
        tmp_path,
    )
    assert "put the folder that holds it on sys.path" in output
