"""The documentation tells the truth: its Python blocks run, and their output is what it says.

- The `python` blocks of one Markdown file run in order, in one namespace (`pages`). A page that
  patches the standard library runs in a process of its own, with the servers that it is about.
- The examples in docstrings run as doctests.
- Links between the files lead somewhere.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import inspect
import io
import os
import pkgutil
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pages
import pytest
from certificates import certificates  # noqa: F401
from conftest import CHOSEN, IN_A_CELL, once_is_enough
from pages import FENCED, blocks_of
from servers import nginx, postgresql, redis  # noqa: F401

import verdigris

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]

LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)#\s]+)?(#[^)\s]+)?\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def run_apart(request: pytest.FixtureRequest) -> bool:
    """Runs a test that loads greenlet, which stays, in a process of its own.

    False in that process.
    """
    if "VERDIGRIS_NEIGHBOURS" in os.environ:
        return False
    pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", request.node.nodeid],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "VERDIGRIS_NEIGHBOURS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
    return True


# The pages that patch the standard library, with what they need: the servers by their fixtures,
# each with the environment variable in which the page looks for its address; and the packages.
PATCHING: dict[str, tuple[dict[str, str], list[str]]] = {
    "README.md": ({}, []),
    "docs/tutorial.md": ({}, ["trio"]),
    "docs/howto-requests.md": ({"nginx": "SERVICE_URL"}, ["requests"]),
    "docs/howto-fastapi.md": (
        {"postgresql": "DATABASE_URL"},
        ["fastapi", "uvicorn", "httpx", "sqlalchemy", "psycopg2"],
    ),
    "docs/howto-django.md": (
        {"postgresql": "DATABASE_URL"},
        ["django", "uvicorn", "httpx", "psycopg"],
    ),
    "docs/howto-redis.md": ({"redis": "REDIS_URL"}, ["redis"]),
    "docs/howto-psycopg2.md": (
        {"postgresql": "DATABASE_URL"},
        ["psycopg2", "psycopg", "psycopg_pool"],
    ),
    # Its processes start from the program's own file.
    "docs/howto-many-machines.md": ({"port_of_dask_in_use": "IN_USE"}, ["distributed"]),
    "docs/howto-sqlalchemy.md": (
        {"postgresql": "DATABASE_URL"},
        ["sqlalchemy", "psycopg2", "psycopg"],
    ),
}

IN_THIS_PROCESS = [page for page in PAGES if blocks_of(page) and name_of(page) not in PATCHING]


in_whole_runs = pytest.mark.skipif(
    IN_A_CELL and len(CHOSEN) == 1, reason="cells that try one engine leave pages to the others"
)


@pytest.mark.parametrize("page", IN_THIS_PROCESS, ids=name_of)
def test_examples_on_the_page_run_as_shown(page: Path, request: pytest.FixtureRequest) -> None:
    if page.stem == "neighbours" and run_apart(request):
        return
    pages.run(page)


@pytest.fixture
def port_of_dask_in_use() -> Iterator[str]:
    """Somebody on this machine, a cell of the matrix for one, has a cluster with a dashboard."""
    address = ("", 8787)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # taken in truth
            stack.enter_context(socket.create_server(address))
        yield str(address)


@in_whole_runs
@pytest.mark.parametrize("name", PATCHING)
def test_examples_that_patch_run_as_shown(name: str, request: pytest.FixtureRequest) -> None:
    servers, packages = PATCHING[name]
    for package in packages:
        pytest.importorskip(package, reason=f"{package} is not installed")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for fixture, variable in servers.items():
        address = request.getfixturevalue(fixture)
        environment[variable] = address if isinstance(address, str) else address["http"]
    done = subprocess.run(
        [sys.executable, "-W", "error", pages.__file__, str(ROOT / name)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_cells_of_the_page_about_notebooks_run_as_shown(tmp_path: Path) -> None:
    pytest.importorskip("IPython", reason="ipython is not installed")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        # Neither the configuration nor the history of the one who runs the tests.
        "HOME": str(tmp_path),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    page = ROOT / "docs/howto-notebooks.md"
    assert len(pages.blocks_of(page, "py")) > 5
    done = subprocess.run(
        # A debug build shows what IPython is told is deprecated.
        [sys.executable, "-W", "ignore::DeprecationWarning", pages.__file__, "--cells", str(page)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_pages_that_must_have_examples_have_them() -> None:
    with_examples = {name_of(page) for page in PAGES if blocks_of(page)}
    assert with_examples >= {
        *PATCHING,
        "docs/green.md",
        "docs/reference.md",
        "docs/migrating-from-awaitlet.md",
        "docs/migrating-from-greenback.md",
        "docs/migrating-from-greenletio.md",
    }


def modules_of_the_package() -> list[str]:
    found = pkgutil.walk_packages(verdigris.__path__, prefix="verdigris.")
    return ["verdigris", *(module.name for module in found)]


@pytest.mark.parametrize("name", modules_of_the_package())
def test_docstring_examples_run_as_shown(name: str, request: pytest.FixtureRequest) -> None:
    if name == "verdigris._sqlalchemy" and run_apart(request):
        return
    if name == "verdigris._psycopg":
        for driver in ("psycopg2", "psycopg"):
            pytest.importorskip(driver, reason=f"{driver} is not installed")
    if name == "verdigris._patch_in_place":
        # A patch stays; and pytest holds what it replaces.
        import verdigris._patch_in_place as patching

        command = [sys.executable, "-W", "error", "-m", "doctest", patching.__file__]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as missing:
        # A module for one library needs that library. (curio ends at 3.11.)
        if missing.name not in ("trio", "curio", "psycopg", "psycopg2"):
            raise
        pytest.skip(f"{missing.name} is not installed")
    if hasattr(module, "_verdigris_original"):
        pytest.skip("a twin has the docstrings of the stdlib")
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for example in doctest.DocTestFinder(exclude_empty=True).find(module):
        # As a reader types it: imports in it are not the module's.
        example.globs["__name__"] = "__main__"
        runner.run(example, out=report.write)
    assert runner.summarize(verbose=False).failed == 0, report.getvalue()


def test_python_functions_with_an_example_are_found() -> None:
    examples = {
        example.name
        for module in ("verdigris._async", "verdigris._spawn")
        for example in doctest.DocTestFinder().find(importlib.import_module(module))
        if example.examples
    }
    assert examples >= {
        "verdigris._async.async_",
        "verdigris._spawn.spawn",
        "verdigris._spawn.GreenTask.join",
    }


PUBLIC = [name for name in verdigris.__all__ if name != "__version__"]
API = {
    name
    for page in sorted(ROOT.glob("docs/api/*.md"))
    for name in re.findall(r"^\.\. auto\w+:: (\w+)$", page.read_text(encoding="utf-8"), re.M)
}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented_and_in_the_reference(name: str) -> None:
    assert (getattr(verdigris, name).__doc__ or "").strip(), f"{name} has no docstring"
    assert f"`{name}`" in (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    assert name in API, f"{name} is on no page of docs/api"


@pytest.mark.parametrize("library", ["a_sync", "awaitlet", "greenback", "greenletio"])
def test_every_name_of_a_drop_in_is_in_the_api(library: str) -> None:
    drop_in = importlib.import_module(f"verdigris.compat.{library}")
    page = (ROOT / "docs/api/compat.md").read_text(encoding="utf-8")
    section = page.partition(f"## verdigris.compat.{library}\n")[2].partition("\n## ")[0]
    for name in drop_in.__all__:
        same = getattr(drop_in, name) is getattr(verdigris, name, None)
        assert (f"`{name}`" if same else f":: {name}\n") in section


FUNCTIONS = [name for name in PUBLIC if not isinstance(getattr(verdigris, name), type)]
# Statements and context managers without a value.
GIVES_NOTHING = {
    "atomic",
    "bestow_portal",
    "detect_blocking",
    "ensure_portal",
    "patch_all",
    "patch_blocking",
    "portals_for_children",
    "portals_for_tree",
}
# They only ask or wrap; what they wrap has errors of its own.
RAISES_NOTHING = {"autoawait", "can_await", "decorate_as_sync", "idle_event_loop", "is_patched"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_have_the_sections_of_the_style(name: str) -> None:
    function = getattr(verdigris, name)
    text = inspect.getdoc(function) or ""
    missing = [
        section
        for section, needed in {
            "Args:": bool(inspect.signature(function).parameters),
            "Returns:": name not in GIVES_NOTHING,
            "Raises:": name not in RAISES_NOTHING,
            "Example:": True,
        }.items()
        if needed and f"\n{section}\n" not in text
    ]
    if not re.search(r"\bcheckpoint|schedule points", text, re.I):
        missing.append("whether it is a checkpoint")
    assert not missing


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    for package in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(package, reason=f"{package} is not installed (requirements/docs.txt)")
    command = [sys.executable, "-m", "sphinx", "--nitpicky", "--fail-on-warning", "--quiet"]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    # What is left of Markdown or reStructuredText is shown as it stands, without a warning.
    for page in tmp_path.rglob("*.html"):
        prose = re.sub(
            r"<(pre|code|script|style|svg)\b.*?</\1>", "", page.read_text("utf-8"), flags=re.S
        )
        left = re.findall(r"(:\w+:`|```|\]\([a-z./]+\)|\*\*\w+\*\*)", prose)
        assert not left, f"{page.name} shows {left}"


def test_figures_and_plots_of_the_benchmarks_are_those_of_the_results() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/page.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@once_is_enough
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    prose = FENCED.sub("", page.read_text(encoding="utf-8"))
    for target, anchor in LINK.findall(prose):
        if "://" in target:
            continue
        file = (page.parent / target) if target else page
        assert file.exists(), f"{name_of(page)} links to {target}, which is not there"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {"#" + re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings}
            assert anchor in anchors, f"{name_of(page)} links to {anchor}, which is no heading"
