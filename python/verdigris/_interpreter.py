"""Which interpreters the engine may be loaded into.

The engine saves and restores private fields of CPython's thread state. Their set and their meaning
change with every minor version, so a version is either known or refused. This module imports
nothing but `sys` before that is settled: it must work, and say what is wrong, on interpreters that
nothing else here supports.
"""

import sys

OLDEST = (3, 11)
NEWEST = (3, 15)


def check() -> None:
    """Refuses an interpreter that the engine does not know.

    Raises:
        ImportError: The interpreter is not CPython, its version is not known, it is a
            free-threaded build, or a sub-interpreter. The text names which, and what to use
            instead.
    """
    supported = "{}.{} to {}.{}".format(*OLDEST, *NEWEST)
    if sys.implementation.name != "cpython":
        raise ImportError(
            f"verdigris switches stacks inside CPython, and this interpreter is "
            f"{sys.implementation.name}. Run the program on CPython {supported}."
        )
    version = "{}.{}".format(*sys.version_info[:2])
    if sys.version_info[:2] < OLDEST:
        raise ImportError(
            f"verdigris needs CPython {supported}, and this is {version}. Use a newer CPython."
        )
    if sys.version_info[:2] > NEWEST:
        raise ImportError(
            f"verdigris knows the thread state of CPython {supported}, and this is {version}. "
            f"Look for a newer verdigris, or use CPython {NEWEST[0]}.{NEWEST[1]}."
        )
    # The build is asked, not `sys._is_gil_enabled()`: the thread state of a free-threaded build
    # has another layout even while its GIL is on.
    if "t" in getattr(sys, "abiflags", ""):
        raise ImportError(
            f"verdigris needs the GIL, and this CPython {version} is a free-threaded build. "
            f"Use the default build (python{version}, not python{version}t)."
        )
    from verdigris import _engine

    _engine._check_interpreter()
