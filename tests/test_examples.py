"""The examples run as a user runs them, and keep the promise they make."""

from __future__ import annotations

import ast
import asyncio
import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
REPLIES = [
    f"Got back echo response: message number {msg}"
    for msg in ("one", "two", "three", "four", "five")
]


def run_example(name: str, *arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout


LoadExample = Callable[[str], ModuleType]


@pytest.fixture
def load_example(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoadExample]:
    """Imports a module of the examples, and forgets all of them afterwards."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for path in EXAMPLES.glob("*.py"):
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
    yield importlib.import_module
    for path in EXAMPLES.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("program", ["echo_threads.py", "echo_asyncio.py"])
def test_each_echo_program_gets_its_five_messages_back(program: str) -> None:
    assert run_example(program).splitlines() == REPLIES


def test_send_receive_logic_is_the_same_plain_source_in_both(load_example: LoadExample) -> None:
    programs = [load_example("echo_threads"), load_example("echo_asyncio")]
    with_threads, on_asyncio = (inspect.getsource(p.send_receive_logic) for p in programs)
    assert with_threads == on_asyncio
    for program in programs:
        # Neither program wraps the function nor binds the name to another one.
        assert program.send_receive_logic.__module__ == "echo_layers"
        assert "send_receive_logic(" not in re.findall(r"def (\w+\()", inspect.getsource(program))

    nodes = list(ast.walk(ast.parse(on_asyncio)))
    assert any(isinstance(node, ast.FunctionDef) for node in nodes)
    assert not any(isinstance(node, (ast.AsyncFunctionDef, ast.Await)) for node in nodes)


def test_the_logic_refuses_a_server_that_does_not_echo(load_example: LoadExample) -> None:
    logic = load_example("echo_layers").send_receive_logic
    with pytest.raises(ValueError, match=r"is 127\.0\.0\.1:7 an echo server\?"):
        logic("one", "127.0.0.1", 7, lambda host, port, message: "")


def test_the_demo_runs_both_programs_and_compares_the_kinds() -> None:
    output = run_example("demo.py", "--functions", "200").splitlines()
    assert [line for line in output if line in REPLIES] == REPLIES * 2
    for kind in ("native coroutines", "verdigris functions", "threads"):
        (line,) = [line for line in output if line.startswith(kind)]
        assert line.split()[2 if " " in kind else 1] == "200"


@pytest.mark.parametrize("loop_name", ["asyncio", "uvloop", "trio"])
def test_the_demo_runs_the_program_with_threads_unchanged_on_each_loop(
    load_example: LoadExample, loop_name: str
) -> None:
    pytest.importorskip(loop_name, reason=f"{loop_name} is not installed")
    assert load_example("demo").unchanged(loop_name).splitlines() == [
        f"python -m verdigris --loop {loop_name} echo_threads.py",
        f"  {REPLIES[0]}",
        "  ... and 4 more",
    ]


def test_the_demo_says_which_loop_is_not_installed(
    load_example: LoadExample, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = load_example("demo")
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert demo.unchanged("uvloop").endswith("echo_threads.py: uvloop is not installed")


@pytest.mark.parametrize("kind", ["native coroutines", "verdigris functions", "threads"])
def test_a_kind_of_the_demo_reports_what_it_measured(kind: str) -> None:
    outcome = json.loads(run_example("demo.py", "--scene", kind, "--functions", "50"))
    assert outcome["functions"] == 50
    assert outcome["start_seconds"] > 0
    assert outcome["finish_seconds"] > 0


def test_the_demo_refuses_a_count_of_none() -> None:
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py"), "--functions", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2
    assert "--functions must be at least 1" in ran.stderr


# --- print_fact.py -----------------------------------------------------------


def test_print_fact_prints_the_number_on_every_loop() -> None:
    shown = ["plain:", "120"]
    shown += ["on asyncio:", "120", "another task ran meanwhile: True"]
    if importlib.util.find_spec("trio") is None:
        shown += ["on Trio: it is not installed"]
    else:
        shown += ["on Trio:", "120", "another task ran meanwhile: True"]
    assert run_example("print_fact.py").splitlines() == shown


def test_print_fact_says_so_where_trio_is_not_installed(
    load_example: LoadExample, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    program = load_example("print_fact")
    monkeypatch.setattr(program.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "trio", None)  # an import of it fails
    program.main()
    assert capfd.readouterr().out.splitlines() == [
        "plain:",
        "120",
        "on asyncio:",
        "120",
        "another task ran meanwhile: True",
        "on Trio: it is not installed",
    ]


def test_print_fact_is_one_plain_function_for_all_three(
    load_example: LoadExample, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = load_example("print_fact")
    print_fact = load_example("fact_layers").print_fact
    assert program.print_fact is print_fact

    source = ast.parse(inspect.getsource(program))
    bound = [node for node in ast.walk(source) if getattr(node, "name", None) == "print_fact"]
    assert [type(node) for node in bound] == [ast.alias]  # the import, and no other binding
    calls = [
        ast.unparse(node)
        for node in ast.walk(source)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print_fact"
    ]
    assert sorted(calls) == [
        "print_fact(NUMBER, print_value_asyncio)",
        "print_fact(NUMBER, print_value_sync)",
        "print_fact(NUMBER, print_value_trio)",
    ]
    layer = list(ast.walk(ast.parse(inspect.getsource(print_fact))))
    assert not any(isinstance(node, (ast.AsyncFunctionDef, ast.Await)) for node in layer)
    assert "verdigris" not in inspect.getsource(load_example("fact_layers"))


# --- patched.py --------------------------------------------------------------


def test_a_sync_client_fetches_its_pages_while_the_loop_goes_on() -> None:
    pages = ["page one", "page two", "page three"]
    expected = [*pages, "the loop went on meanwhile: True"]
    assert run_example("patched.py").splitlines() == expected


# --- callback.py -------------------------------------------------------------


def test_the_callback_program_prints_what_each_customer_pays() -> None:
    assert run_example("callback.py").splitlines() == ["ada pays 10", "bob pays 13"]


def test_one_parser_goes_on_while_the_callback_of_another_waits(
    load_example: LoadExample, capsys: pytest.CaptureFixture[str]
) -> None:
    log = asyncio.run(load_example("callback").main())
    # Both have asked before either is answered.
    assert log[:2] == ["ada asks for tea", "bob asks for bread"]
    for customer, articles in {"ada": ["tea", "salt"], "bob": ["bread", "tea"]}.items():
        assert [entry for entry in log if entry.startswith(customer)] == [
            f"{customer} {verb} {article}" for article in articles for verb in ("asks for", "knows")
        ]
    assert capsys.readouterr().out == "ada pays 10\nbob pays 13\n"


def test_the_callback_of_the_example_is_a_plain_function(load_example: LoadExample) -> None:
    callback = load_example("callback").Bill.startElement
    assert not inspect.iscoroutinefunction(callback)
    assert "await_(" in inspect.getsource(callback)


# --- the notes programs ------------------------------------------------------

# They are not imported here: SQLAlchemy loads greenlet, which stays.
NOTES = ["notes_threads.py", "notes_asyncio.py", "notes_engine.py"]


@pytest.mark.parametrize("program", NOTES)
def test_each_notes_program_notes_each_thing_once(program: str) -> None:
    for needed in ("sqlalchemy", "aiosqlite", "greenlet"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    assert run_example(program).splitlines() == [
        "ada buys tea, salt",
        "bob buys bread",
        "cyd buys rope, soap, salt",
    ]


def test_the_notes_programs_share_the_layers_that_they_keep() -> None:
    kept = {
        "notes_threads.py": {"note_logic", "SessionStore"},
        "notes_asyncio.py": {"note_logic"},
        "notes_engine.py": {"note_logic", "SessionStore"},
    }
    for program, layers in kept.items():
        nodes = list(ast.walk(ast.parse((EXAMPLES / program).read_text(encoding="utf-8"))))
        imported = {
            alias.name
            for node in nodes
            if isinstance(node, ast.ImportFrom) and node.module == "notes_layers"
            for alias in node.names
            if alias.asname is None
        }
        bound = {getattr(node, "name", None) for node in nodes if not isinstance(node, ast.alias)}
        assert layers <= imported - bound

    shared = (EXAMPLES / "notes_layers.py").read_text(encoding="utf-8")
    kinds = {type(node) for node in ast.walk(ast.parse(shared))}
    assert not kinds & {ast.AsyncFunctionDef, ast.AsyncWith, ast.AsyncFor, ast.Await}
    assert "verdigris" not in shared
