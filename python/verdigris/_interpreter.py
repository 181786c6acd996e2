"""Which interpreters the engine may be loaded into.

Native stacks save and restore private fields of CPython's thread state. Their set and their meaning
change with every minor version. A newer CPython than this package knows is built for without that
knowledge, and functions run on greenlets (`_which_engine`). Anything else is refused. This module
imports nothing but `sys` before that is settled: it must work, and say what is wrong, on
interpreters that nothing else here supports.
"""

import sys

OLDEST = (3, 11)
#: The newest whose thread state is known.
NEWEST = (3, 15)


def check() -> None:
    """Refuses an interpreter that no engine works in.

    Raises:
        ImportError: The interpreter is not CPython, it is too old, a free-threaded build or a
            sub-interpreter; the system is Windows; or there is no engine built for it. The text
            names which, and what to do.
    """
    supported = "{}.{}".format(*OLDEST)
    if sys.implementation.name != "cpython":
        raise ImportError(
            f"verdigris switches stacks inside CPython, and this interpreter is "
            f"{sys.implementation.name}. Run the program on CPython {supported} or newer."
        )
    version = "{}.{}".format(*sys.version_info[:2])
    if sys.version_info[:2] < OLDEST:
        raise ImportError(
            f"verdigris needs CPython {supported} or newer, and this is {version}. "
            "Use a newer CPython."
        )
    # The build is asked, not `sys._is_gil_enabled()`: the thread state of a free-threaded build
    # has another layout even while its GIL is on.
    if "t" in getattr(sys, "abiflags", ""):
        raise ImportError(
            f"verdigris needs the GIL, and this CPython {version} is a free-threaded build. "
            f"Use the default build (python{version}, not python{version}t)."
        )
    if sys.platform == "win32":
        raise ImportError(
            "verdigris works on Linux and macOS: its stacks and its reactor are written for Unix, "
            "and this is Windows. Use WSL 2 or a container."
        )
    try:
        import verdigris._engine as _engine
    except ModuleNotFoundError as error:
        if error.name != "verdigris._engine":
            raise
        raise ImportError(
            f"verdigris has no engine for this CPython {version} on {sys.platform}: the package "
            "was copied from another installation, or put on the path without being built. "
            "Install it: pip install verdigris; in a checkout, make build."
        ) from error

    _engine._check_interpreter()
