"""``import durabletask`` means this package where a program asks for it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.waiting import wait_until

PROGRAM = """
import os
import sys

from durabletask import task
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.client import OrchestrationStatus


def pack(ctx: task.ActivityContext, article: str) -> str:
    with open("packed.txt", "a") as file:
        file.write(f"{article}\\n")
    return f"box of {article}"


def order(ctx: task.OrchestrationContext, articles: list):
    boxes = []
    for article in articles:
        boxes.append((yield ctx.call_activity(pack, input=article)))
    ctx.set_custom_status("waits")
    paid = yield ctx.wait_for_external_event("paid", data_type=bool)
    return {"boxes": boxes, "paid": paid}


config = {
    "host_address": os.getenv("ENDPOINT", "http://localhost:8080"),
    "taskhub": os.getenv("TASKHUB", "default"),
    "secure_channel": False,
    "token_credential": None,
}
with DurableTaskSchedulerWorker(**config) as worker:
    worker.add_orchestrator(order)
    worker.add_activity(pack)
    worker.start()
    client = DurableTaskSchedulerClient(**config)
    if sys.argv[1] == "begin":
        client.schedule_new_orchestration(order, input=["tea", "honey"], instance_id="order-7")
        while client.get_orchestration_state("order-7").get_custom_status() != "waits":
            pass
        print("waits", flush=True)
        client.wait_for_orchestration_completion("order-7", timeout=60)
    client.raise_orchestration_event("order-7", "paid", data=True)
    state = client.wait_for_orchestration_completion("order-7", timeout=60)
    if state and state.runtime_status == OrchestrationStatus.COMPLETED:
        print(state.serialized_output)
"""


def run(*arguments: str, folder: Path, store: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(folder, store),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def environment(folder: Path, store: str | None) -> dict[str, str]:
    chosen = {} if store is None else {"DUROXIDE_DURABLETASK_STORE": store}
    return {"HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), "PATH": "", **chosen}


def test_the_modules_have_two_names(tmp_path: Path) -> None:
    program = (
        "import duroxide.durabletask; duroxide.durabletask.install(); duroxide.durabletask.install()\n"
        "import durabletask, durabletask.client, durabletask.azuremanaged.worker, duroxide.durabletask.client as ours\n"
        "from durabletask import task, ConcurrencyOptions, PACKAGE_NAME\n"
        "assert durabletask is duroxide.durabletask and durabletask.client is ours\n"
        "assert task.RetryPolicy is duroxide.durabletask.task.RetryPolicy\n"
        "assert ours.__name__ == ours.__spec__.name == 'duroxide.durabletask.client'\n"
        "try:\n    import durabletask.nothing\nexcept ModuleNotFoundError as error:\n    print(error, error.name)\n"
    )
    done = run("-c", program, folder=tmp_path)
    assert done.stderr == ""
    assert (
        done.stdout == "this version of duroxide.durabletask has no module 'durabletask.nothing' durabletask.nothing\n"
    )


def test_the_real_package_must_not_be_imported_before(tmp_path: Path) -> None:
    (tmp_path / "durabletask.py").write_text("")
    program = "import durabletask, duroxide.durabletask as ours\ntry:\n    ours.install()\nexcept ImportError as error:\n    print(error)"
    assert "imported already" in run("-c", program, folder=tmp_path).stdout


def test_the_package_is_not_loaded_with_duroxide(tmp_path: Path) -> None:
    program = "import duroxide, sys; print([each for each in sys.modules if 'durabletask' in each])"
    assert run("-c", program, folder=tmp_path).stdout == "[]\n"


def test_the_package_loads_its_modules_at_first_use(tmp_path: Path) -> None:
    program = "import duroxide.durabletask, sys; print('duroxide.durabletask.task' in sys.modules)"
    assert run("-c", program, folder=tmp_path).stdout == "False\n"


def test_a_program_gets_its_arguments_its_folder_and_its_exit_status(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/beside.py").write_text("VALUE = 7")
    (tmp_path / "inner/program.py").write_text(
        "import sys, beside; print(sys.argv[1:], beside.VALUE, __name__); sys.exit(3)"
    )
    done = run("-m", "duroxide.durabletask", "inner/program.py", "a", "--b", folder=tmp_path)
    assert (done.stdout, done.returncode) == ("['a', '--b'] 7 __main__\n", 3)


@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["--help"], 0)])
def test_without_a_program_the_usage_is_shown(tmp_path: Path, arguments: list[str], status: int) -> None:
    done = run("-m", "duroxide.durabletask", *arguments, folder=tmp_path)
    assert done.returncode == status
    assert "usage: python -m duroxide.durabletask" in done.stdout + done.stderr


@pytest.mark.alone
@pytest.mark.parametrize("store", [None, "sqlite:///shop.db", "postgres"])
def test_a_killed_program_continues(store: str | None, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    hub = "default"
    if store == "postgres":
        store = str(request.getfixturevalue("postgres_url"))
        hub = request.getfixturevalue("postgres_hub")
    (tmp_path / "program.py").write_text(PROGRAM.replace('"default"', repr(hub)))
    command = [sys.executable, "-m", "duroxide.durabletask", "program.py", "begin"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path, store), stdout=subprocess.PIPE, text=True
    ) as begun:
        assert begun.stdout is not None
        assert begun.stdout.readline() == "waits\n"
        begun.send_signal(signal.SIGKILL)
    done = run("-m", "duroxide.durabletask", "program.py", "end", folder=tmp_path, store=store)
    assert done.stdout == '{"boxes": ["box of tea", "box of honey"], "paid": true}\n', done.stderr
    assert (tmp_path / "packed.txt").read_text() == "tea\nhoney\n"
    wait_until(lambda: begun.poll() is not None)
