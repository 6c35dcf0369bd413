"""A hook of MkDocs: the pages work on the site as they do on GitHub.

- A page may link to ``../CHANGELOG.md`` or to a source file, but MkDocs knows the folder ``docs`` alone. This hook adds each
  linked file to the site, under ``repository/``, and changes the link.
- A code block says how the tests run it, as in ``python continued``. MkDocs does not know these words, so they are removed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ADDED = "repository"
LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[#)])")

FENCE = re.compile(r"^(```\w+) (.+)$", flags=re.MULTILINE)


def uri_of(path: Path) -> str:
    """Return where the site has a file of the repository."""
    return str(path.relative_to(DOCS)) if path.is_relative_to(DOCS) else f"{ADDED}/{path.relative_to(ROOT)}"


def links_of(page: Path) -> list[Path]:
    """Return the files to which a page links."""
    found = ((page.parent / link).resolve() for link in LINK.findall(page.read_text(encoding="utf-8")))
    return [path for path in found if path.is_relative_to(ROOT) and path.is_file()]


def on_files(files: Files, config: Any) -> Files:
    """Add the linked files that are not in ``docs``."""
    pending = list(DOCS.rglob("*.md"))
    seen = set(pending)
    while pending:
        for path in links_of(pending.pop()):
            if path in seen:
                continue
            seen.add(path)
            if not path.is_relative_to(DOCS):
                added = File.generated(
                    config, uri_of(path), abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV
                )
                files.append(added)
            if path.suffix == ".md":
                pending.append(path)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Change the links that leave ``docs``, and those of pages that are not in it."""
    source = Path(page.file.abs_src_path)

    def changed(link: re.Match[str]) -> str:
        target = (source.parent / link[1]).resolve()
        if not (target.is_relative_to(ROOT) and target.is_file()):
            return link[1]
        return os.path.relpath(uri_of(target), Path(page.file.src_uri).parent)

    return LINK.sub(changed, FENCE.sub(_plain_fence, markdown))


def _plain_fence(fence: re.Match[str]) -> str:
    """Return the first line of a code block without the words that say how the tests run it."""
    file = re.fullmatch(r"file (\S+)", fence[2])
    return f'{fence[1]} title="{file[1]}"' if file else fence[1]
