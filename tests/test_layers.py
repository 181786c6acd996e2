"""The layers point one way: fiber <- engine <- the public names <- compat.

Checked on the sources, so that a convenient import the wrong way fails here
before it becomes a habit.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import needs_native_stacks

import verdigris

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(verdigris.__file__).resolve().parent
#: The crates without Python.
FIBER, AWAIT = (ROOT / "crates" / name for name in ("fiber", "await"))


def sources(of: Path, pattern: str) -> list[Path]:
    found = sorted(of.rglob(pattern))
    assert found, f"no {pattern} in {of}"
    return found


def imports(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Every import of the file, as (module, names); relative ones made absolute."""
    package = ["verdigris", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module, [alias.name for alias in node.names]


def ours(module: str) -> bool:
    return module.split(".")[0] == "verdigris"


def test_the_public_names_are_the_ones_listed() -> None:
    for name in verdigris.__all__:
        assert hasattr(verdigris, name)
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    defined = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    assert defined == [], "__init__ lists the public names and holds no code"
    public = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {name for name in public if not name.startswith("_")} <= set(verdigris.__all__)


@pytest.mark.parametrize(
    "path", sources(PACKAGE / "compat", "*.py"), ids=lambda path: str(path.name)
)
def test_compat_uses_the_public_names_only(path: Path) -> None:
    for module, names in imports(path):
        if not ours(module):
            continue
        assert not module.startswith("verdigris._engine"), f"{path.name} reaches into the engine"
        if module == "verdigris":
            assert set(names) <= set(verdigris.__all__), f"{path.name} imports private names"


@pytest.mark.parametrize(
    "path",
    [path for path in sources(PACKAGE, "*.py") if "compat" not in path.parts],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_nothing_reaches_up(path: Path) -> None:
    for module, names in imports(path):
        assert not module.startswith("verdigris.compat"), f"{path.name} reaches up into compat"
        if module == "verdigris" and path.name != "__init__.py":
            through = set(names) & set(verdigris.__all__)
            assert not through, f"{path.name} goes up through the public names {through}"


@pytest.mark.parametrize("path", sources(PACKAGE, "*.py"), ids=lambda path: str(path.name))
def test_only_the_choice_of_the_engine_uses_greenlet(path: Path) -> None:
    uses = any(module.split(".")[0] == "greenlet" for module, _ in imports(path))
    assert uses == (path.name == "_which_engine.py")


# What a module may import is in its own layer or in one above it in this list.
LAYERS = {
    "loops": r"loops(\..*)?",
    "green": r"green(\..*)?",
    "patch": r"_patch_\w+|_patched_modules|_held_originals|_module_locks|_psycopg\w*",
    "worlds": r"worlds(\..*)?",
    "command": r"__main__|_run_script|_inner_loop|_signal_handlers|_doctor|pytest(\..*)?",
}


def layer_of(module: str) -> int:
    """The number of a module's layer, or -1 if it is of none: what all of them may import."""
    name = module.removeprefix("verdigris.")
    found = [n for n, names in enumerate(LAYERS.values()) if re.fullmatch(names, name)]
    return found[0] if found else -1


@pytest.mark.parametrize("layer", LAYERS)
def test_loops_are_below_green_modules_below_patches_below_the_command(layer: str) -> None:
    checked = 0
    for path in sources(PACKAGE, "*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if layer_of(name) != list(LAYERS).index(layer):
            continue
        checked += 1
        for module, names in imports(path):
            if ours(module):
                for used in [module, *(f"{module}.{name}" for name in names)]:
                    assert layer_of(used) <= layer_of(name), f"{name} reaches up to {used}"
    assert checked > 2


def test_what_stands_below_the_green_modules_does_not_know_them() -> None:
    """The engine's own faces: awaiting, portals, tasks."""
    for path in sources(PACKAGE, "*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if layer_of(name) > -1 or name == "__init__" or name.startswith("compat"):
            continue
        for module, names in imports(path):
            for used in [module, *(f"{module}.{each}" for each in names)]:
                assert layer_of(used) <= 0, f"{name} reaches up to {used}"


def without_comments(rust: str) -> str:
    return re.sub(r"//[^\n]*", "", rust)


@pytest.mark.skipif(not FIBER.exists(), reason="an installed package has no crates beside it")
@pytest.mark.parametrize("crate", [FIBER, AWAIT], ids=["fiber", "await"])
def test_the_crate_knows_no_python(crate: Path) -> None:
    manifest = (crate / "Cargo.toml").read_text(encoding="utf-8")
    assert not re.search(r"pyo3|python", manifest, re.IGNORECASE)
    for path in sources(crate / "src", "*.rs"):
        text = without_comments(path.read_text(encoding="utf-8"))
        assert not re.search(r"\b(pyo3|python|cpython|pyobject)", text, re.IGNORECASE), path.name


@pytest.mark.skipif(not FIBER.exists(), reason="an installed package has no crates beside it")
@pytest.mark.parametrize("crate", [FIBER, AWAIT], ids=["fiber", "await"])
def test_the_crate_does_not_depend_on_the_engine(crate: Path) -> None:
    manifest = (crate / "Cargo.toml").read_text(encoding="utf-8")
    assert "verdigris-engine" not in manifest and "../engine" not in manifest


@pytest.mark.skipif(not FIBER.exists(), reason="an installed package has no crates beside it")
def test_the_fiber_crate_does_not_depend_on_its_users() -> None:
    assert "verdigris-await" not in (FIBER / "Cargo.toml").read_text(encoding="utf-8")


@needs_native_stacks
def test_importing_loads_no_loop_and_no_greenlet(python: Any) -> None:
    done = python(
        """
        import sys
        import verdigris, verdigris.compat.awaitlet
        loaded = {"greenlet", "trio", "uvloop", "sniffio"} & set(sys.modules)
        assert not loaded, loaded
        print("clean")
        """
    )
    assert done.stdout == "clean\n"


def test_a_trio_program_loads_no_asyncio_of_ours(python: Any) -> None:
    done = python(
        """
        import sys
        before = "asyncio" in sys.modules
        import verdigris
        verdigris.async_def(len, "x").close()
        assert ("asyncio" in sys.modules) == before
        print("clean")
        """
    )
    assert done.stdout == "clean\n"


def test_the_engine_is_one_of_a_kind() -> None:
    """Two copies would each keep their own idea of the thread's stacks."""
    from verdigris import _engine

    assert sys.modules["verdigris._engine"] is _engine
    assert verdigris.async_def is _engine.async_def
