"""The harness that runs CPython's tests: whom it charges with what."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import once_is_enough, python_path

CONFORMANCE = Path(__file__).resolve().parent.parent / "conformance"

TESTS = """
    import os, time, unittest

    class Tests(unittest.TestCase):
        def test_a_passes(self): pass
        def test_b_fails(self): self.fail("reason")
        def test_c_skips(self): self.skipTest("reason")
        def test_d_hangs(self): time.sleep(600)
        def test_e_ends_the_process(self): os._exit(3)
        def test_f_forks(self):
            if os.fork() != 0:
                os.wait()
        def test_g_fails_in_a_subtest(self):
            with self.subTest(1): self.fail()
        @unittest.expectedFailure
        def test_h_fails_as_expected(self): self.fail()
        def test_i_fails_once(self):
            if not os.path.exists(os.environ["ONCE"]):
                open(os.environ["ONCE"], "w").close()
                self.fail()

    class NoSetUp(unittest.TestCase):
        @classmethod
        def setUpClass(cls): raise unittest.SkipTest("not here")
        def test(self): pass
"""

EXPECTED = {
    "NoSetUp.test": "skipped",
    "Tests.test_a_passes": "passed",
    "Tests.test_b_fails": "failed",
    "Tests.test_c_skips": "skipped",
    "Tests.test_d_hangs": "hung",
    "Tests.test_e_ends_the_process": "failed",
    "Tests.test_f_forks": "passed",
    "Tests.test_g_fails_in_a_subtest": "failed",
    "Tests.test_h_fails_as_expected": "passed",
    "Tests.test_i_fails_once": "passed",
}

# In a process of its own: the folder is no package.
DRIVER = """
    import dataclasses, json, sys, time
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import one_file
    if sys.argv[4:] == ["late"]:
        class Late(one_file.subprocess.Popen):
            def __init__(self, *args, **settings):
                super().__init__(*args, **settings)
                time.sleep(1)
        one_file.subprocess.Popen = Late
    store = Path(sys.argv[2])
    run = one_file.Run(sys.argv[3], "test_some", store, 3.0, fingerprint="x", package="")
    record = run.to_end()
    print(json.dumps({"ended": record.ended, "outcomes": {
        one.removeprefix("test_some."): dataclasses.asdict(outcome)
        for one, outcome in record.outcomes.items()
    }}))
"""

Harness = Callable[..., dict[str, Any]]


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    """Runs the tests above in a mode. A second time goes on where the first ended."""
    (tmp_path / "test_some.py").write_text(textwrap.dedent(TESTS))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), python_path()]))
    monkeypatch.setenv("ONCE", str(tmp_path / "once"))

    def run(mode: str, *how: str) -> dict[str, Any]:
        driver = textwrap.dedent(DRIVER)
        done = subprocess.run(
            [sys.executable, "-c", driver, CONFORMANCE, tmp_path / "store", mode, *how],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=120,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


@once_is_enough
@pytest.mark.parametrize(
    "how", [["threads"], ["verdigris-asyncio"], ["threads", "late"]], ids=" ".join
)
def test_each_test_is_charged_with_its_own(harness: Harness, how: list[str]) -> None:
    found = harness(*how)
    outcomes = found["outcomes"]
    assert {one: outcome["status"] for one, outcome in outcomes.items()} == EXPECTED
    assert found["ended"] == "done"
    assert "reason" in outcomes["Tests.test_b_fails"]["text"]
    assert "ended in it, with 3" in outcomes["Tests.test_e_ends_the_process"]["text"]
    assert [one for one, outcome in outcomes.items() if outcome["again"]] == [
        "Tests.test_b_fails",
        "Tests.test_e_ends_the_process",
        "Tests.test_g_fails_in_a_subtest",
        "Tests.test_i_fails_once",
    ]


def test_a_run_that_was_stopped_goes_on(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "store" / "threads").mkdir(parents=True)
    kept = [
        {"of": "x"},
        {"ids": ["test_some.Tests.test_b_fails", "test_some.Tests.test_d_hangs"]},
        {"begin": "test_some.Tests.test_b_fails"},
        {"id": "test_some.Tests.test_b_fails", "status": "passed", "text": ""},
        {"id": "test_some.Tests.test_d_hangs", "status": "passed", "text": ""},
    ]
    lines = "".join(json.dumps(line) + "\n" for line in kept)
    (tmp_path / "store" / "threads" / "test_some.jsonl").write_text(lines + '{"begin": "test_')
    outcomes = harness("threads")["outcomes"]
    assert outcomes["Tests.test_b_fails"]["status"] == "passed"
    assert outcomes["Tests.test_d_hangs"]["status"] == "passed"
    assert outcomes["Tests.test_c_skips"]["status"] == "skipped"


def test_every_entry_of_the_list_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CONFORMANCE))
    skips = importlib.import_module("skips")
    for skip in skips.SKIPS:
        assert skip.category in skips.CATEGORIES
        assert len(skip.reason) > 20
        assert skip.ids
        assert all(one.startswith("test_") for one in skip.ids)
