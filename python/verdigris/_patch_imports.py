"""`patch_blocking`: green modules for what is imported in a block, and the stdlib for all others.

Three parts give an import the right module:

- `sys.modules` has the green modules while a block is entered, for imports by other means than a
  statement (`importlib.import_module`, C extensions). Those in packages are not put there: a
  package's submodules are found through it.
- A function in the place of `builtins.__import__`, from the first block on, sees who imports. In
  the block's thread everybody gets the green modules. At any time, so do modules that were loaded
  in a block: their functions import lazily. All others get the stdlib's.
- A finder in front of the others finds nothing, and notes what is loaded by whom.

Nothing is deleted or loaded twice: what was loaded in a block stays.
"""

import _thread
import builtins
import contextlib
import sys
import types
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from verdigris import _held_originals, _patched_modules
from verdigris._held_originals import PatchWarning
from verdigris._patched_modules import Patchable, is_stdlib, left_alone, runs_loops

# By the name of the stdlib's module; and the packages that have such modules in them.
_table: dict[str, Patchable] = {}
_packages: dict[str, "_PackageOfTwins"] = {}

# What loops import in the place of modules that were patched in place.
_spares: dict[str, ModuleType] = {}

# Modules that were loaded in a block, or by such a module, with the names that are green for them.
_loaded: dict[str, frozenset[str]] = {}

_guard = _thread.allocate_lock()
_swapped: dict[str, int] = {}
_before_swap: dict[str, ModuleType] = {}
_warned: set[str] = set()

# Modules of the stdlib that wait for others. The rest holds `os` or `time` for what never waits.
_WAITING_STDLIB = frozenset({
    "ftplib", "http.client", "http.server", "imaplib", "logging.handlers", "nntplib", "poplib",
    "sched", "smtplib", "socketserver", "telnetlib", "urllib.request", "xmlrpc.client",
    "xmlrpc.server",
})  # fmt: skip


@dataclass
class _Block:
    names: frozenset[str]
    #: What was there before, to tell what the block finds loaded; None for a lazy import.
    before: frozenset[str] | None
    holders: dict[str, list[str]] = field(default_factory=dict)


class _Blocks(_thread._local):
    """The blocks that this thread is in, the innermost last."""

    def __init__(self) -> None:
        self.entered: list[_Block] = []


_blocks = _Blocks()


class _PackageOfTwins(ModuleType):
    """Stands for a package, `concurrent`, whose submodules have twins. All else is the package's.

    Its path is the package's too, so that its submodules are found.
    """

    def __init__(self, original: ModuleType) -> None:
        super().__init__(original.__name__, original.__doc__)
        self.__dict__.update(
            {k: v for k, v in vars(original).items() if not isinstance(v, ModuleType)}
        )
        self._verdigris_original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._verdigris_original, name)


@contextlib.contextmanager
def patch_blocking(modules: Iterable[str] | None = None) -> Iterator[None]:
    """Gives green modules to what is imported in the block. Also a decorator.

    In the block `import socket` gives `verdigris.green.socket`, in modules that are loaded there
    too: a library of plain sync code then waits without blocking the loop, in functions that run
    green. Anywhere else it does what it did. The stdlib's own modules are not changed, and after
    the block `sys.modules` has them under their names, as before.

    Modules that were loaded in the block stay, and what their functions import later is green
    too. `importlib.import_module` can't know who calls it: in the block it gives green modules,
    but not of a package (`concurrent.futures`), and later the stdlib's. A module that was loaded
    before the block keeps what it has: if it is imported in the block and would block, a
    `PatchWarning` names it, once.

    Blocks can be nested, and entered by several threads at a time. Import statements of other
    threads get the stdlib's modules meanwhile; `sys.modules` has the green ones for all. Import
    in the block, and wait for nothing else there. Not a checkpoint.

    Args:
        modules: The names of the modules that are green. None for all.

    Raises:
        ValueError: A name stands for nothing that can be patched; the text lists what can.
        TypeError: `modules` is one string.

    Example:
        >>> import asyncio
        >>> from verdigris import async_def, patch_blocking
        >>> with patch_blocking():
        ...     from time import sleep
        >>> async def main():
        ...     await asyncio.gather(async_def(sleep, 0.1), async_def(sleep, 0.1))
        ...     return "both slept at once"
        >>> asyncio.run(main())
        'both slept at once'
        >>> import time
        >>> time.sleep is sleep
        False
    """
    chosen = _patched_modules.chosen(modules, "patch_blocking")
    _install(chosen)
    names = frozenset(one.public for one in chosen)
    block = _Block(names, frozenset(sys.modules))
    swap = [one for one in chosen if _is_swapped(one)]
    _swap(swap)
    _blocks.entered.append(block)
    try:
        yield
    finally:
        _blocks.entered.remove(block)
        _swap_back(swap)
        _warn(block)


def _is_swapped(one: Patchable) -> bool:
    return "." not in one.original.__name__ and not hasattr(one.original, "__path__")


def _swap(ones: list[Patchable]) -> None:
    with _guard:
        for one in ones:
            name = one.original.__name__
            if not _swapped.get(name):
                _before_swap[name] = sys.modules[name]
            sys.modules[name] = one.twin
            _swapped[name] = _swapped.get(name, 0) + 1


def _swap_back(ones: list[Patchable]) -> None:
    with _guard:
        for one in ones:
            name = one.original.__name__
            _swapped[name] -= 1
            if not _swapped[name]:
                del _swapped[name]
                sys.modules[name] = _before_swap.pop(name)


def _install(chosen: list[Patchable]) -> None:
    with _guard:
        for one in chosen:
            _enter_in_table(one)
        if not any(isinstance(finder, _Notes) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Notes())
        _see_who_imports()


def spare(name: str, original: ModuleType) -> None:
    """Has the libraries that run loops import `original` by that name from now on.

    For a module that was patched in place: these need what it was.
    """
    with _guard:
        _spares[name] = original
        _see_who_imports()


def _see_who_imports() -> None:
    if getattr(builtins.__import__, "_verdigris", None) is None:
        builtins.__import__ = _seeing_who_imports(builtins.__import__)


def _enter_in_table(one: Patchable) -> None:
    name = one.original.__name__
    if name in _table:
        return
    _table[name] = one
    package, _, last = name.rpartition(".")
    if not package:
        return
    if package in _table:
        setattr(_table[package].twin, last, one.twin)
    elif package not in _packages:
        # The package has no twin of its own (yet): `concurrent`, or it follows its submodules.
        _packages[package] = _PackageOfTwins(sys.modules[package])
    if package in _packages:
        setattr(_packages[package], last, one.twin)
    for other, entry in _table.items():
        if other.rpartition(".")[0] == name:
            setattr(one.twin, other.rpartition(".")[2], entry.twin)


# --- who imports -------------------------------------------------------------


def _green_for(importer: object) -> frozenset[str] | None:
    """The names that are green for a module that imports now, or None."""
    if isinstance(importer, str) and (left_alone(importer) or importer in _table):
        return None
    entered = _blocks.entered
    if entered:
        return entered[0].names.union(*(block.names for block in entered[1:]))
    return _loaded.get(importer) if isinstance(importer, str) else None


class _Notes:
    """Notes which modules are loaded in a block, or by a module that was. Others find them."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        if name in _table:
            return
        entered = _blocks.entered
        if entered:
            _loaded[name] = entered[0].names.union(*(block.names for block in entered[1:]))
        elif name.rpartition(".")[0] in _loaded:
            # A package that loads its submodules by `importlib.import_module`.
            _loaded[name] = _loaded[name.rpartition(".")[0]]


def _seeing_who_imports(import_before: Any) -> Any:
    def __import__(  # noqa: A001
        name: str,
        globals: Any = None,  # noqa: A002
        locals: Any = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        importer = globals.get("__name__") if type(globals) is dict else None
        green = _green_for(importer)
        if green is None:
            module = import_before(name, globals, locals, fromlist, level)
            if level:
                return module
            if _swapped:
                module = _original(module, name, fromlist)
            if _spares and isinstance(importer, str) and runs_loops(importer):
                return _spares.get(name if fromlist else name.partition(".")[0], module)
            return module
        if _blocks.entered:
            module = import_before(name, globals, locals, fromlist, level)
            _note_what_was_loaded(module, name, level)
        else:
            # What it loads for the first time is loaded as in a block.
            block = _Block(green, None)
            _blocks.entered.append(block)
            try:
                module = import_before(name, globals, locals, fromlist, level)
            finally:
                _blocks.entered.remove(block)
        return module if level else _twin(module, name, fromlist, green)

    # `warnings` skips frames of the import system by their file, to name the module that imports.
    # Ours is one of them. (ImportError's traceback names it so too.)
    __import__.__code__ = __import__.__code__.replace(co_filename="<frozen importlib._bootstrap>")
    __import__._verdigris = True  # type: ignore[attr-defined]
    return __import__


def _twin(
    module: ModuleType, name: str, fromlist: Sequence[str] | None, green: frozenset[str]
) -> ModuleType:
    """What an import statement gets, where the names in `green` are."""
    if fromlist:
        return _twin_of(module, name, fromlist, green)
    first, _, rest = name.partition(".")
    while rest:
        # `import concurrent.futures.process`: the twin has what its package has got by that.
        package = name[: len(name) - len(rest) - 1]
        if package in _table and _table[package].public in green:
            _complete(_table[package], [rest.partition(".")[0]])
        rest = rest.partition(".")[2]
    return _twin_of(module, first, (), green)


def _twin_of(
    module: ModuleType, name: str, wanted: Sequence[str], green: frozenset[str]
) -> ModuleType:
    one = _table.get(name)
    if one is not None and one.public in green:
        _complete(one, wanted)
        return one.twin
    package = _packages.get(name)
    if package is not None and any(public.startswith(f"{name}.") for public in green):
        return package
    return module


def _complete(one: Patchable, wanted: Sequence[str]) -> None:
    """Gives a package's twin the submodules that the package has got since it was made."""
    for name in wanted:
        if name not in vars(one.twin):
            value = vars(one.original).get(name)
            if isinstance(value, ModuleType):
                setattr(one.twin, name, value)


def _original(module: ModuleType, name: str, fromlist: Sequence[str] | None) -> ModuleType:
    """What an import statement gets that is not green, while `sys.modules` has green modules."""
    one = _table.get(name if fromlist else name.partition(".")[0])
    return one.original if one is not None and module is one.twin else module


# --- what was loaded too early -----------------------------------------------


def _note_what_was_loaded(module: ModuleType, name: str, level: int) -> None:
    block = _blocks.entered[-1]
    if block.before is None or level or name in block.holders:
        return
    block.holders[name] = []
    top = name.partition(".")[0]
    for known in list(sys.modules):
        # Of a library all of its modules, of the stdlib the one.
        if known == name or (known.startswith(f"{top}.") and not is_stdlib(name)):
            if known not in block.before or known in _loaded or known in _warned:
                continue
            if left_alone(known) or known in _table:
                continue
            if is_stdlib(known) and known not in _WAITING_STDLIB:
                continue
            holder = sys.modules[known]
            if isinstance(holder, ModuleType):
                held = sorted(_would_block(holder, block.names))
                if held:
                    block.holders[known] = held


def _would_block(module: ModuleType, names: frozenset[str]) -> set[str]:
    """Names what a module holds that would wait without the loop."""
    chosen = [one for one in _table.values() if one.public in names]
    greens = {
        id(one.originals[name]): one.replaced[name] for one in chosen for name in one.replaced
    }
    found = {held.name for held in _held_originals.held_by(module, greens)}
    used: set[str] | None = None
    for name, value in list(vars(module).items()):
        for one in chosen:
            if value is one.original:
                used = _names_used(module) if used is None else used
                found |= {f"{name}.{attribute}" for attribute in _waiting_names(one) & used}
    return found


def _waiting_names(one: Patchable) -> set[str]:
    """The names of a module that wait: what is replaced, and what is written with that."""
    replaced = {*one.replaced, *one.methods}
    return replaced | {
        name
        for name, value in vars(one.original).items()
        if name not in replaced
        and getattr(value, "__module__", None) == one.original.__name__
        and isinstance(value, (types.FunctionType, type))
        and replaced & _names_used_by(value)
    }


def _names_used(module: ModuleType) -> set[str]:
    used: set[str] = set()
    for value in list(vars(module).values()):
        if getattr(value, "__module__", None) == module.__name__:
            used |= _names_used_by(value)
    return used


def _names_used_by(value: object) -> set[str]:
    used: set[str] = set()
    todo: list[Any] = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, (staticmethod, classmethod)):
            todo.append(one.__func__)
        elif isinstance(one, property):
            todo += [part for part in (one.fget, one.fset, one.fdel) if part is not None]
        elif isinstance(one, types.FunctionType):
            todo.append(one.__code__)
        elif isinstance(one, types.CodeType):
            used.update(one.co_names)
            todo += [constant for constant in one.co_consts if isinstance(constant, types.CodeType)]
        elif isinstance(one, type) and one is value:
            todo += list(vars(one).values())
    return used


def _warn(block: _Block) -> None:
    held = {
        module: names for module, names in block.holders.items() if names and module not in _warned
    }
    if not held:
        return
    _warned.update(held)
    listed = ", ".join(f"{module} ({', '.join(names)})" for module, names in sorted(held.items()))
    warnings.warn(
        f"These modules were imported before patch_blocking(), and go on to use what blocks: "
        f"{listed}. Import them first in the block; or call patch_all() at the start of the "
        f"program.",
        PatchWarning,
        # This function, the generator, contextlib's __exit__, the block.
        stacklevel=4,
    )
