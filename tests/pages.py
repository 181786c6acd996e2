"""The Python blocks of a documentation page, and how they are run.

They run in order, in one namespace, as a reader would type them. A `text` block straight after one
is its output.

`python tests/pages.py docs/page.md` runs a page in a process of its own. That is for pages that
patch the standard library, which stays, and must come before other imports. `--cells` runs the `py`
blocks of a page as cells of IPython, as the kernel of a notebook does.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass
class Block:
    """A block of code, and the `text` block that follows it with nothing but space between."""

    line: int
    source: str
    output: str | None


def blocks_of(page: Path, of_language: str = "python") -> list[Block]:
    """Finds the blocks of a page that run: the Python ones, where nothing else is said."""
    text = page.read_text(encoding="utf-8")
    blocks: list[Block] = []
    end_of_last = -1
    for fence in FENCED.finditer(text):
        language, body = fence.groups()
        if language == of_language:
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
        compare(page, block, printed.getvalue())


async def run_cells(page: Path) -> None:
    """Runs the `py` blocks of a page in IPython's shell, those that await each in a task.

    The output of a cell is what it prints, and then what it gives; or the type of its error.

    Raises:
        AssertionError: A cell gave something else than the page says.
    """
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance(colors="NoColor")
    if shell.history_manager is not None:
        shell.history_manager.enabled = False
    shell.displayhook.write_output_prompt = lambda: None
    shell.displayhook.write_format_data = lambda *_: None
    for block in blocks_of(page, "py"):
        printed = io.StringIO()
        transformed = shell.transform_cell(block.source)
        with contextlib.redirect_stdout(printed):
            if shell.should_run_async(block.source, transformed_cell=transformed):
                cell = shell.run_cell_async(block.source, transformed_cell=transformed)
                done = await asyncio.ensure_future(cell)
            else:
                done = shell.run_cell(block.source)
        error = done.error_before_exec or done.error_in_exec
        if error is not None:  # the shell has printed its traceback
            compare(page, block, f"{type(error).__name__}\n")
        elif done.result is not None:
            compare(page, block, f"{printed.getvalue()}{done.result!r}\n")
        else:
            compare(page, block, printed.getvalue())


def compare(page: Path, block: Block, printed: str) -> None:
    """A block that prints must say what, so that the page cannot be wrong about it."""
    if printed != (block.output or ""):
        raise AssertionError(
            f"{page}, line {block.line}: the page says\n{block.output or ''}\n"
            f"and what is printed is\n{printed}"
        )


if __name__ == "__main__":
    if sys.argv[1] == "--cells":
        asyncio.run(run_cells(Path(sys.argv[2])))
    else:
        run(Path(sys.argv[1]))
