"""Every Python block of the README and of the docs runs and prints what it shows, and every link has a target.

A fence says how its block runs: ``python`` in a new namespace, ``python continued`` after the last block above it that
is not continued, ``python postgres`` with ``DATABASE_URL`` set to a real server, ``python alone`` in a separate
process, since it changes the whole process, ``python tests`` as a file of tests. A block must print exactly what its
comments show: ``# prints: …`` behind a line, or ``#> …`` on separate lines.

``python file NAME`` is a program that the reader saves; a ``console`` block runs the programs above it, one after the
other in one folder, and shows their output. A run that is shown to end with ``Killed`` is killed with SIGKILL when it
has printed the lines before. ``python elsewhere`` is the code of another framework: it must compile, and is not run.
"""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import duroxide

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXPECTED = re.compile(r"(?:^|\s)(?:# prints:|#>) ?(.*)$")
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
PICTURES = sorted((ROOT / "docs/pictures").iterdir())
SVG = {"svg": "http://www.w3.org/2000/svg"}
TARGET = re.compile(r"\bmake ([a-z][a-z-]*)")
KINDS = ("python", "python continued", "python postgres", "python alone", "python tests", "python elsewhere")
# Matches an ``async def`` orchestration, whose loop needs Python 3.11.
NEEDS_ASYNCIO = re.compile(r"^@(?:runtime\.register_)?orchestration.*\nasync def ", flags=re.MULTILINE)
# The schema in the blocks that use PostgreSQL; each block gets a new one in its place.
SCHEMA = "duroxide_docs"


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    kind: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_python(self) -> bool:
        return self.kind.startswith("python")

    @property
    def file(self) -> str | None:
        """The name under which the reader saves it."""
        return self.kind.removeprefix("python file ") if self.kind.startswith("python file ") else None

    @property
    def needs_asyncio(self) -> bool:
        """Whether it has an orchestration that asyncio runs."""
        return bool(NEEDS_ASYNCIO.search(self.text))

    @property
    def expected(self) -> list[str]:
        """The lines that its comments show as its output."""
        found = (EXPECTED.search(line) for line in self.text.splitlines())
        return [match.group(1).rstrip() for match in found if match]


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    opened: tuple[int, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.startswith("```"):
            lines.append(line)
        elif opened is None:
            opened, lines = (number, line[3:].strip()), []
        else:
            yield Block(page, opened[0], opened[1], "\n".join(lines) + "\n")
            opened = None
    assert opened is None, f"the block at {page}:{opened} is never closed"


def prose_of(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def has_anchor(page: Path, anchor: str) -> bool:
    """Whether a page has an anchor: of a heading, written out, or of a name that the site renders there."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), flags=re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return anchor in slugs | set(re.findall(r'<a id="([^"]+)">', prose_of(page))) or is_rendered(page, anchor)


def is_rendered(page: Path, name: str) -> bool:
    """Whether the site renders the docstring of a public name, such as ``duroxide.Client.start``, on a page."""
    found: Any = duroxide
    for part in name.split(".")[1:]:
        found = getattr(found, part, None)
    return found is not None and any(name == each or name.startswith(f"{each}.") for each in rendered_on(page))


def rendered_on(page: Path) -> list[str]:
    """The names that the site renders on a page, with all that they have."""
    return re.findall(r"^::: (\S+)$", prose_of(page), flags=re.MULTILINE)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PYTHON_BLOCKS = [block for block in BLOCKS if block.is_python and block.file is None]
SESSIONS = [block for block in BLOCKS if block.kind == "console"]


def base_of(block: Block) -> list[Block]:
    """The block that a continued one continues."""
    if block.kind != "python continued":
        return []
    above = [each for each in PYTHON_BLOCKS if each.page == block.page and each.line < block.line]
    bases = [each for each in above if each.kind != "python continued"]
    assert bases, f"{block.name} continues nothing"
    return bases[-1:]


def close(names: dict[str, Any]) -> None:
    """Close what a block left open."""
    for kind, end in ((duroxide.Runtime, "shutdown"), (duroxide.SqliteProvider, "close")):
        for value in list(names.values()):
            if isinstance(value, kind):
                getattr(value, end)()


def run_alone(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block as a program in a folder."""
    program = folder / "program.py"
    program.write_text(block.text, encoding="utf-8")
    options = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if block.kind == "python tests" else []
    command = [sys.executable, *options, str(program)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def files_above(session: Block) -> list[Block]:
    """The programs that the reader of a session has saved by then; the last one of a name counts."""
    return [block for block in BLOCKS if block.page == session.page and block.file and block.line < session.line]


def runs_of(session: Block) -> Iterator[tuple[str, list[str]]]:
    """The programs that a session runs, each with the output that it shows."""
    for run in re.split(r"^\$ ", session.text, flags=re.MULTILINE)[1:]:
        command, *lines = run.splitlines()
        match = re.fullmatch(r"python (\w+\.py)", command)
        assert match, f"{session.name} runs '{command}'; a session runs 'python FILE.py'"
        yield match.group(1), lines


def run_until_killed(program: Path, lines: list[str]) -> None:
    """Run a program, and kill it when it has printed these lines."""
    with subprocess.Popen(
        [sys.executable, "-u", program.name], cwd=program.parent, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        printed = [run.stdout.readline().rstrip("\n") for _ in lines]
        run.kill()
        assert (printed, run.stdout.read()) == (lines, "")
    assert run.returncode == -signal.SIGKILL


def skip_without_asyncio(*blocks: Block) -> None:
    """Skip blocks that need asyncio's task groups, which this Python lacks."""
    if sys.version_info < (3, 11) and any(block.needs_asyncio for block in blocks):
        pytest.skip("an 'async def' orchestration needs Python 3.11")


@pytest.fixture
def surroundings(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[dict[str, Any]]:
    """An empty working directory, and the namespace of the block, closed at the end."""
    monkeypatch.chdir(tmp_path)
    if block.kind == "python postgres":
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("postgres_url"))
    loggers = [logging.getLogger(name) for name in ("duroxide", "duroxide.orchestration", "duroxide.activity")]
    configured = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    names: dict[str, Any] = {"__name__": "__main__"}
    yield names
    close(names)
    for logger, level, handlers in configured:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=lambda block: block.name)
def test_every_block_runs_and_prints_what_it_shows(
    block: Block, surroundings: dict[str, Any], capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    assert block.kind in KINDS, f"unknown kind of block: {block.kind}"
    if block.kind == "python elsewhere":
        compile(block.text, block.name, "exec", dont_inherit=True)
        return
    skip_without_asyncio(*base_of(block), block)
    if block.kind == "python tests":
        ended = run_alone(block, Path.cwd())
        assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
        return
    if block.kind == "python alone":
        ended = run_alone(block, Path.cwd())
        assert (ended.returncode, ended.stdout.splitlines(), ended.stderr) == (0, block.expected, "")
        return
    for each in (*base_of(block), block):
        capfd.readouterr()
        # The lines above make the line numbers of a traceback those of the page.
        text = "\n" * each.line + each.text
        if block.kind == "python postgres":
            text = text.replace(SCHEMA, request.getfixturevalue("postgres_schema"))
        exec(compile(text, str(each.page), "exec", dont_inherit=True), surroundings)
    close(surroundings)
    printed = capfd.readouterr()
    assert printed.out.splitlines() == block.expected
    assert printed.err == "", "a healthy run prints nothing else"


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.name)
def test_every_session_prints_what_it_shows(session: Block, tmp_path: Path) -> None:
    files = files_above(session)
    skip_without_asyncio(*files)
    for block in files:
        assert block.file is not None
        (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    for name, lines in runs_of(session):
        if lines[-1:] == ["Killed"]:
            run_until_killed(tmp_path / name, lines[:-1])
        else:
            command = [sys.executable, name]
            ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
            assert (ended.returncode, ended.stdout.splitlines(), ended.stderr) == (0, lines, "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_saved_file_is_run_by_a_session(page: Path) -> None:
    run = {name for session in SESSIONS if session.page == page for name, _ in runs_of(session)}
    assert {block.file for block in BLOCKS if block.page == page and block.file} == run


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_has_a_target(page: Path) -> None:
    for target in LINK.findall(prose_of(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target} does not exist"
        if anchor:
            assert has_anchor(linked, anchor), f"{target} has no such heading"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    pending = [ROOT / "README.md"]
    while pending:
        page = pending.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        links = (link.partition("#")[0] for link in LINK.findall(prose_of(page)))
        pending.extend((page.parent / link).resolve() for link in links if link and "://" not in link)
    assert {page.resolve() for page in PAGES} <= reached


@pytest.mark.parametrize("page", PAGES[2:], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_page_begins_with_its_purpose(page: Path) -> None:
    title, empty, purpose = page.read_text(encoding="utf-8").splitlines()[:3]
    assert title.startswith("# ")
    assert not empty
    assert purpose.startswith("After this page you ")


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_every_picture_has_a_dark_style_and_its_title_as_text(picture: Path) -> None:
    drawing = ET.parse(picture).getroot()
    title = drawing.findtext("svg:title", namespaces=SVG)
    assert title
    assert drawing.get("role") == "img"
    assert "prefers-color-scheme: dark" in (drawing.findtext("svg:style", namespaces=SVG) or "")
    assert drawing.find(".//svg:image", namespaces=SVG) is None, "its words must be text"
    shown = [
        words
        for page in PAGES
        for words, path in IMAGE.findall(prose_of(page))
        if (page.parent / path).resolve() == picture.resolve()
    ]
    assert set(shown) == {title}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_named_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    shown = "\n".join(block.text for block in BLOCKS if block.page == page and not block.is_python)
    inline = "\n".join(re.findall(r"`([^`\n]+)`", prose_of(page)))
    assert set(TARGET.findall(shown + "\n" + inline)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_path_or_host_of_one_machine(page: Path) -> None:
    assert not re.search(r"/home/|/root/|/Users/|/work/|pypi\.org|crates\.io", page.read_text(encoding="utf-8"))


@pytest.mark.skipif(not (ROOT / "crates").exists(), reason="the pages name the files as they are with the crates")
@pytest.mark.parametrize("page", [ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_of_the_sources_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`((?:src|crates|python|tests|tools|benchmarks|docs)/[^`\s]*)`", prose_of(page))
    assert [path for path in named if "NAME" not in path and not (ROOT / path).exists()] == []


@pytest.mark.alone
def test_the_program_of_the_readme_runs_twice_in_any_folder(tmp_path: Path) -> None:
    program = next(block for block in PYTHON_BLOCKS if block.page.name == "README.md")
    skip_without_asyncio(program)
    for _ in range(2):
        ended = run_alone(program, tmp_path)
        assert (ended.returncode, ended.stdout.splitlines(), ended.stderr) == (0, program.expected, "")
