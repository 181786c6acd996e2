"""How many system calls a wait takes, by strace.

The client reads messages one by one, twice: a few and many. The difference between the two counts
is that of the messages, without what the process does to start and to end.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile

from memory import Figures, SceneFailed
from results import Line, Section

from net import peers, rows
from net.turns import SECONDS_LIMIT, command, in_rounds

FEW = 100
# Of the same kind, by what it is for. uvloop reads and writes where others receive and send.
KINDS = {
    "recv_each": {"recvfrom", "recvmsg", "read", "readv"},
    "send_each": {"sendto", "sendmsg", "write", "writev"},
    "wait_each": {"epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select"},
    "control_each": {"epoll_ctl"},
}
# Each line of `strace -c`: percent, seconds, microseconds a call, calls, errors if any, name.
LINE = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.MULTILINE)


def missing() -> str | None:
    """Why it can't be counted here."""
    return None if shutil.which("strace") else "strace is not installed"


def _calls(peer: str, address: str, count: int) -> dict[str, int]:
    """The calls of a client that reads so many messages, by name."""
    client = command(rows.MESSAGES, peer, address, count, 1)
    with tempfile.NamedTemporaryFile("r") as counts:
        traced = ["strace", "--follow-forks", "--summary-only", f"--output={counts.name}"]
        try:
            subprocess.run(
                [*traced, *client],
                capture_output=True,
                text=True,
                check=True,
                timeout=SECONDS_LIMIT,
            )
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
            raise SceneFailed(said[-1]) from error
        except subprocess.TimeoutExpired as error:
            raise SceneFailed(f"not finished after {error.timeout:.0f} s") from error
        found = {name: int(calls) for calls, name in LINE.findall(counts.read())}
    found.pop("total", None)
    if not found:
        raise SceneFailed("strace counted nothing: may it trace here?")
    return found


def _each(peer: str, address: str, many: int) -> Figures:
    """The calls of one message."""
    few, more = _calls(peer, address, FEW), _calls(peer, address, FEW + many)
    each = {name: (calls - few.get(name, 0)) / many for name, calls in more.items()}
    figures = {kind: sum(each.get(name, 0) for name in names) for kind, names in KINDS.items()}
    together = sum(each.values())
    return {
        **figures,
        "other_each": max(0.0, together - sum(figures.values())),
        "calls_each": together,
    }


def count(names: list[str], address: str, rounds: int, divisor: int) -> Section:
    """Counts for each peer."""
    many = max(FEW, rows.MESSAGES.count // divisor)
    taken, failures = in_rounds(names, rounds, lambda name: _each(name, address, many))
    title = (
        f"system calls of {rows.MESSAGES.title}, by strace; "
        f"{peers.NATIVE} is {rows.MESSAGES.native_name}"
    )
    lines = [
        Line(name, {key: statistics.median(each[key] for each in figures) for key in figures[0]})
        for name, figures in taken.items()
    ]
    return Section(rows.MESSAGES.name, title, lines, [], failures, many)
