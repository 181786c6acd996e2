"""Runs one of CPython's test files, its tests one after another, and says what comes of each.

    worker.py MODE MODULE EVENTS SKIP_FILE [ONLY_FILE]

One process is one (mode, file). The parent (`run.py`) starts it: plainly for the modes that patch
here, and by `python -m verdigris worker.py ...` for verdigris' modes, so that all of it is a sync
program that runs green. Each event is a line of JSON in the file EVENTS, written before and after
each test: a test that ends the process, or never ends, is the one that was running. Tests named in
SKIP_FILE are left out; with ONLY_FILE only those named there run.

It imports nothing of this folder: to the tests, it is not there.
"""

import sys

# The stdlib's own calls, whatever a mode or a test makes of `os`.
from posix import O_APPEND, O_CREAT, O_WRONLY, _exit, close, getpid, open, write  # noqa: A004

# `network` is for files that use the loopback only, and ask for the network as a whole.
RESOURCES = {"test.test_timeout": ["network"], "test.test_socketserver": ["network"]}
PROCESS = getpid()


class Events:
    """Where the events go. Opened for each, so that a test may close all descriptors."""

    def __init__(self, path):
        import json

        self.path = path
        self.dumps = json.dumps

    def __call__(self, **event):
        if getpid() != PROCESS:
            # The child of a test's fork, which came back as if it were the parent.
            _exit(99)
        line = self.dumps(event) + "\n"
        fd = open(self.path, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        try:
            write(fd, line.encode())
        finally:
            close(fd)


def main():
    mode, module, events, skip_file, *only_file = sys.argv[1:]
    sys.argv[1:] = []
    # The directory of this file, put there by the interpreter.
    del sys.path[0]
    if mode == "gevent":
        from gevent import monkey

        monkey.patch_all()
    if mode == "greenletio":
        on_greenletio(lambda: run(module, Events(events), skip_file, only_file))
    else:
        if mode != "threads":
            teach_test_support()
        run(module, Events(events), skip_file, only_file)


def on_greenletio(function):
    """It patches modules while they are imported, and runs functions on asyncio."""
    import asyncio

    import greenletio

    with greenletio.patch_blocking():
        asyncio.run(greenletio.async_(function)())


def teach_test_support():
    """What `test.support` has to know of threads that are not the tests'."""
    import threading
    import types

    from test.support import import_helper, threading_helper

    # A copy that is imported anew is one that nobody has patched.
    def import_fresh_module(name, fresh=(), blocked=(), **kwargs):
        if name in ("queue", "threading", "time", "socket", "select", "selectors"):
            return __import__(name)
        return original(name, fresh, blocked, **kwargs)

    original = import_helper.import_fresh_module
    import_helper.import_fresh_module = import_fresh_module

    # A loop keeps the threads that look up names for it. No test has to end these.
    def count():
        names = [thread.name for thread in threading.enumerate()]
        return _thread._count() - sum(name.startswith(("asyncio_", "Trio ")) for name in names)

    import _thread

    threading_helper._thread = types.SimpleNamespace(_count=count)


def read_ids(path):
    with __builtins__.open(path) as file:
        return set(file.read().split("\n"))


def run(module, tell, skip_file, only_file):
    import faulthandler
    import unittest

    from test import support

    faulthandler.enable()
    skip = read_ids(skip_file)
    only = read_ids(only_file[0]) if only_file else None
    support.use_resources = RESOURCES.get(module, [])
    support.verbose = 0
    try:
        suite = unittest.defaultTestLoader.loadTestsFromName(module)
    except unittest.SkipTest as skipped:
        tell(file="skipped", text=str(skipped))
        return
    tests = [
        test
        for test in flat(suite)
        if test.id() not in skip and (only is None or test.id() in only)
    ]
    tell(ids=[test.id() for test in tests])
    result = result_class(unittest)(tell)
    unittest.TestSuite(tests).run(result)
    for test in tests:
        if test.id() not in result.seen:
            status, text = result.fixture(test)
            tell(id=test.id(), status=status, text=text)
    tell(file="done")
    # Not by the interpreter's end: what tests have left running is nobody's result.
    sys.stdout.flush()
    sys.stderr.flush()
    _exit(0)


def flat(suite):
    for test in suite:
        if hasattr(test, "__iter__"):
            yield from flat(test)
        else:
            yield test


def result_class(unittest):
    class Result(unittest.TestResult):
        """Tells of each test when it begins and when it is over."""

        def __init__(self, tell):
            super().__init__()
            self.tell = tell
            self.seen = set()
            self.fixtures = {}
            self.status, self.text = None, ""

        def startTest(self, test):
            super().startTest(test)
            self.seen.add(test.id())
            self.status, self.text = None, ""
            self.tell(begin=test.id())

        def stopTest(self, test):
            super().stopTest(test)
            self.tell(id=test.id(), status=self.status or "passed", text=self.text)
            self.failures.clear()
            self.errors.clear()

        def note(self, test, status, text):
            if not hasattr(test, "_testMethodName") and "(" in test.id():
                # A fixture's: "setUpClass (test.test_socket.Class)".
                self.fixtures[test.id().partition("(")[2].rstrip(")")] = status, text
                self.tell(fixture=test.id(), status=status, text=text)
            elif status == "failed" or self.status is None:
                self.status, self.text = status, text

        def fixture(self, test):
            cls = type(test)
            for name in (f"{cls.__module__}.{cls.__qualname__}", cls.__module__):
                if name in self.fixtures:
                    return self.fixtures[name]
            return "failed", "it was not run"

        def addError(self, test, error):
            super().addError(test, error)
            self.note(test, "failed", self.errors[-1][1])

        def addFailure(self, test, error):
            super().addFailure(test, error)
            self.note(test, "failed", self.failures[-1][1])

        def addSubTest(self, test, subtest, error):
            super().addSubTest(test, subtest, error)
            if error is not None:
                self.note(test, "failed", (self.failures + self.errors)[-1][1])

        def addSkip(self, test, reason):
            super().addSkip(test, reason)
            if not hasattr(test, "test_case"):  # a subtest's says nothing of the test
                self.note(test, "skipped", reason)

        def addUnexpectedSuccess(self, test):
            super().addUnexpectedSuccess(test)
            self.note(test, "failed", "it is expected to fail, and did not")

    return Result


if __name__ == "__main__":
    main()
