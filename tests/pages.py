"""The Python blocks of a documentation page, and how they are run.

They run in order, in one namespace, as a reader would type them. A `text` block straight after one
is its output.

`python tests/pages.py docs/page.md` runs a page in a process of its own. That is for pages that
patch the standard library, which stays, and must come before other imports.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass
class Block:
    """A `python` block, and the `text` block that follows it with nothing but space between."""

    line: int
    source: str
    output: str | None


def blocks_of(page: Path) -> list[Block]:
    """Finds the Python blocks of a page."""
    text = page.read_text(encoding="utf-8")
    blocks: list[Block] = []
    end_of_last = -1
    for fence in FENCED.finditer(text):
        language, body = fence.groups()
        if language == "python":
            # The line of the fence: its code begins one below, and code lines count from 1.
            blocks.append(Block(text.count("\n", 0, fence.start()) + 1, body, None))
            end_of_last = fence.end()
        elif (
            language == "text"
            and end_of_last >= 0
            and not text[end_of_last : fence.start()].strip()
        ):
            blocks[-1].output = body
            end_of_last = -1
    return blocks


def run(page: Path) -> None:
    """Runs the blocks of a page.

    Raises:
        AssertionError: A block printed something else than the page says.
    """
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of(page):
        # Blank lines in front, so that a traceback names the line of the page.
        code = compile("\n" * block.line + block.source, str(page), "exec", dont_inherit=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        # A block that prints must say what, so that the page cannot be wrong about it.
        if printed.getvalue() != (block.output or ""):
            raise AssertionError(
                f"{page}, line {block.line}: the page says\n{block.output or ''}\n"
                f"and what is printed is\n{printed.getvalue()}"
            )


if __name__ == "__main__":
    run(Path(sys.argv[1]))
