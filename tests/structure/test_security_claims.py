"""Each sentence of SECURITY.md that promises something names the tests that hold it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")

FOOTNOTE = re.compile(r"\[\^(\w+)\]")
# The end of a sentence, or of a claim within a row of a table, and the footnotes behind it.
CLAIM_END = re.compile(r"(?<=[A-Za-z0-9`)*])[.;,]?((?:\[\^\w+\])+)|[.;](?=\s|$)")


def model() -> str:
    """The threat model, without the footnotes' texts and without advice."""
    text = PAGE.partition("## The threat model")[2]
    return re.split(r"^\[\^\w+\]: ", text, maxsplit=1, flags=re.MULTILINE)[0]


def statements() -> Iterator[str]:
    """The items of lists, and the cells of tables: what an attacker can and cannot do."""
    for block in re.split(r"\n\s*\n", model()):
        if block.startswith("- "):
            yield from (" ".join(item.split()) for item in re.split(r"^- ", block, flags=re.MULTILINE) if item.strip())
        elif block.startswith("|"):
            for row in block.splitlines()[2:]:
                yield from (cell.strip() for cell in row.split("|")[2:-1] if cell.strip())


def claims() -> Iterator[tuple[str, str]]:
    """Each sentence of the statements, and the footnotes at its end."""
    for statement in statements():
        begin = 0
        for end in CLAIM_END.finditer(statement):
            yield statement[begin : end.start()].strip(" .;,"), end[1] or ""
            begin = end.end()
        if statement[begin:].strip(" .;,"):
            yield statement[begin:], ""


def footnotes() -> dict[str, list[tuple[str, str]]]:
    """The tests of each footnote: their file and their name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, text in re.findall(r"^\[\^(\w+)\]: (.*(?:\n    .*)*)", PAGE, re.MULTILINE):
        assert name not in found, f"two footnotes are named {name}"
        parts = re.findall(r"(tests/\S+\.py):((?:\s+`\w+`,?)+)", text)
        found[name] = [(file, test) for file, tests in parts for test in re.findall(r"`(\w+)`", tests)]
        assert text.count("`") == 2 * len(found[name]), f"the footnote {name} has another form"
    return found


def test_each_claim_of_the_threat_model_names_its_tests() -> None:
    found = list(claims())
    assert len(found) > 30
    assert [claim for claim, notes in found if not notes] == []


def test_each_footnote_is_used_and_exists() -> None:
    assert sorted(set(FOOTNOTE.findall(model()))) == sorted(footnotes())


@pytest.mark.parametrize("name", footnotes())
def test_the_tests_of_a_claim_exist(name: str) -> None:
    assert footnotes()[name], "a footnote names at least one test"
    for file, test in footnotes()[name]:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file} has no {test}"
