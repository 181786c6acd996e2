"""One test file in one mode, to its end: started again after each crash and each hang.

The results are kept as the worker's own events, one file of lines for each (mode, file), so that a
run that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import modes

#: How long importing a test file may take, and what goes on between two tests.
LOAD_SECONDS = 120.0
#: How often the parent looks.
TICK = 0.05
#: How long a process may take to print where it hangs.
DUMP_SECONDS = 2.0


#: The processes that run now.
running: set[subprocess.Popen[bytes]] = set()


def kill_all() -> None:
    """Ends all that run."""
    for child in list(running):
        _kill(child)


@dataclass
class Outcome:
    """What came of one test."""

    status: str  # passed, failed, skipped, hung
    text: str = ""
    #: It failed the first time, and passed when it was run again by itself.
    again: bool = False


@dataclass
class Record:
    """What is known of a file in a mode."""

    ids: list[str] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    running: str | None = None
    #: "done" when there is nothing left to run; "skipped" when the file as a whole was.
    ended: str | None = None
    why: str = ""
    seconds: float = 0.0

    def take(self, event: dict[str, object]) -> None:
        """Takes one event."""
        match event:
            case {"ids": list(ids)}:
                known = set(self.ids)
                self.ids += [one for one in ids if one not in known]
            case {"begin": str(one)}:
                self.running = one
            case {"id": str(one), "status": str(status), "text": str(text), **more}:
                self.running = None
                self.outcomes[one] = Outcome(status, text, bool(more.get("again")))
            case {"file": str(ended), **more}:
                self.ended = ended
                self.why = str(more.get("text", ""))
            case {"seconds": float(seconds)}:
                self.seconds += seconds


def read(path: Path, fingerprint: str | None = None) -> Record | None:
    """Reads what was kept, if it is of that making."""
    if not path.exists():
        return None
    record = Record()
    with path.open() as file:
        first = file.readline()
        if not first or fingerprint not in (None, json.loads(first).get("of")):
            return None
        for line in file:
            with contextlib.suppress(json.JSONDecodeError):  # the line that a kill cut
                record.take(json.loads(line))
    return record


class Run:
    """Runs one file in one mode."""

    def __init__(
        self,
        mode: str,
        module: str,
        store: Path,
        limit: float,
        skip: Iterable[str] = (),
        fingerprint: str | None = None,
        package: str = "test.",
    ) -> None:
        """Takes what to run, where to keep it, and the seconds that a test may take."""
        self.mode, self.module, self.limit = mode, module, limit
        self.package = package
        self.skip = frozenset(skip)
        self.path = store / mode / f"{module}.jsonl"
        self.log = store / mode / f"{module}.log"
        self.fingerprint = fingerprint or modes.fingerprint(mode)
        self.record = Record()

    def to_end(self) -> Record:
        """Runs what is left, and gives all that is known then."""
        kept = read(self.path, self.fingerprint)
        if kept is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps({"of": self.fingerprint}) + "\n")
            self.log.write_text("")
        else:
            self.record = kept
        fruitless = 0
        while self.record.ended is None:
            before = len(self.record.outcomes)
            self._once()
            fruitless = 0 if len(self.record.outcomes) > before else fruitless + 1
            if fruitless == 2:
                for left in self._left() or [f"{self.package}{self.module} (import)"]:
                    self._keep(id=left, status="failed", text="the process ended before its turn")
                self._keep(file="done")
        self._failed_again()
        return self.record

    def _left(self) -> list[str]:
        return [one for one in self.record.ids if one not in self.record.outcomes]

    def _keep(self, **event: object) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(event) + "\n")
        self.record.take(event)

    def _failed_again(self) -> None:
        """Gives each test that failed a second try by itself, as CPython's own runner does."""
        for one, outcome in list(self.record.outcomes.items()):
            if outcome.status != "failed" or outcome.again or "(import)" in one:
                continue
            events = self._process([one], only=True)
            status = "hung" if events.running == one else "failed"
            second = events.outcomes.get(one, Outcome(status))
            text = outcome.text if second.status != "failed" else second.text
            self._keep(id=one, status=second.status, text=text, again=True)

    def _once(self) -> None:
        started = time.monotonic()
        self._process([*self.record.outcomes, *self.skip], only=False)
        self._keep(seconds=time.monotonic() - started)

    def _process(self, ids: list[str], only: bool) -> Record:
        """Starts the worker once, and sees to its end. A second try writes elsewhere."""
        scratch = Path(tempfile.mkdtemp(prefix="conformance-"))
        events = scratch / "events" if only else self.path
        (scratch / "ids").write_text("\n".join(ids))
        (scratch / "none").write_text("")
        (scratch / "cwd").mkdir()
        files = [scratch / "none", scratch / "ids"] if only else [scratch / "ids"]
        command = modes.command(self.mode, f"{self.package}{self.module}", events, *files)
        environment = {**os.environ, "TMPDIR": str(scratch / "cwd")}
        if self.mode in modes.LOOPS:
            paths = [str(modes.PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        child = None
        # Before the worker writes: all that it does is read.
        position = events.stat().st_size if events.exists() else 0
        try:
            with self.log.open("a") as log:
                child = subprocess.Popen(
                    command,
                    cwd=scratch / "cwd",
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                running.add(child)
                record = Record() if only else self.record
                return self._watch(child, events, position, record)
        finally:
            running.discard(child)
            shutil.rmtree(scratch, ignore_errors=True)

    def _watch(
        self, child: subprocess.Popen[bytes], events: Path, position: int, record: Record
    ) -> Record:
        record.running = None
        last = time.monotonic()
        over = False
        try:
            while True:
                over = child.poll() is not None
                size = events.stat().st_size if events.exists() else 0
                if size > position:
                    position = _take_lines(events, position, record)
                    last = time.monotonic()
                if over:
                    self._ended(child.returncode, events, record)
                    return record
                limit = self.limit if record.running else LOAD_SECONDS
                if time.monotonic() - last > limit:
                    self._hung(child, events, record)
                    return record
                time.sleep(TICK)
        finally:
            _kill(child)

    def _ended(self, returncode: int, events: Path, record: Record) -> None:
        if record.ended is None and record.running is not None:
            text = f"the process ended in it, with {returncode}"
            self._charge(events, record, "failed", text)

    def _hung(self, child: subprocess.Popen[bytes], events: Path, record: Record) -> None:
        # faulthandler prints the stack that runs, into the log.
        os.kill(child.pid, signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(DUMP_SECONDS)
        if record.running is not None:
            self._charge(events, record, "hung", f"stopped after {self.limit:g} s")
        elif record is self.record and record.outcomes and self._left():
            self._keep(
                id=self._left()[0], status="hung", text="the process hung before it, between tests"
            )
        elif record is self.record and record.outcomes:
            self._keep(file="done", text="it hung after the last test")

    def _charge(self, events: Path, record: Record, status: str, text: str) -> None:
        """To the test that was running."""
        if record is self.record:
            self._keep(id=record.running, status=status, text=text)
        elif record.running is not None and status == "failed":
            record.take({"id": record.running, "status": status, "text": text})


def _take_lines(events: Path, position: int, record: Record) -> int:
    with events.open("rb") as file:
        file.seek(position)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    for line in whole.splitlines():
        record.take(json.loads(line))
    return position + len(whole)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Nothing that a test file started outlives it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
