"""Where a process that can be asked and the one that asks meet: a directory of the user's own.

Nobody else can look into it, let alone put anything there. It does not depend on the environment,
which the two need not have in common.
"""

from __future__ import annotations

import contextlib
import os
import stat


def directory() -> str:
    """The directory, made if it is not there.

    Raises:
        PermissionError: What is there is not the user's own, or others may use it.
    """
    path = _candidate()
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not _is_private(path):
            raise PermissionError(
                f"{path} is not a directory of this user's alone, so nothing is put there: remove "
                "it, or have its owner do so"
            ) from None
    return path


def socket_path(pid: int) -> str:
    """The socket of a process."""
    return f"{directory()}/{pid}.socket"


def sweep() -> None:
    """Deletes the sockets of processes that were killed."""
    place = directory()
    for name in os.listdir(place):
        pid, _, kind = name.partition(".")
        if kind == "socket" and pid.isdecimal():
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{place}/{name}")
            except PermissionError:
                pass  # the number is another's by now: its owner sees to that


def _candidate() -> str:
    user = os.getuid()
    home = f"/run/user/{user}"
    return f"{home}/verdigris" if _is_private(home) else f"/tmp/verdigris-{user}"


def _is_private(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
