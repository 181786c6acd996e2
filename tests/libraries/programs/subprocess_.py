"""`subprocess`."""

import os
import subprocess
import sys
import threading
import time

from libraries.probe import probe


@probe
def output() -> None:
    assert subprocess.check_output(["echo", "word"]) == b"word\n"


@probe
def input_and_output() -> None:
    done = subprocess.run(["cat"], input=b"x" * 2_000_000, capture_output=True, check=True)
    assert len(done.stdout) == 2_000_000


@probe
def both_outputs() -> None:
    done = subprocess.run(
        ["sh", "-c", "echo out; echo err >&2; exit 3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)


@probe
def line_by_line() -> None:
    command = "for n in 1 2 3; do echo $n; sleep 0.05; done"
    with subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [line.strip() for line in process.stdout] == ["1", "2", "3"]
    assert process.returncode == 0


@probe
def spoken_with() -> None:
    with subprocess.Popen(
        ["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for word in ("one\n", "two\n"):
            process.stdin.write(word)
            assert process.stdout.readline() == word
        process.stdin.close()
        assert process.wait(5) == 0


@probe
def polled() -> None:
    with subprocess.Popen(["sleep", "0.1"]) as process:
        assert process.poll() is None
        while process.poll() is None:
            time.sleep(0.01)
        assert process.returncode == 0


@probe
def terminated() -> None:
    with subprocess.Popen(["sleep", "30"]) as process:
        threading.Timer(0.05, process.terminate).start()
        assert process.wait(5) == -15


@probe
def by_os() -> None:
    reading, writing = os.pipe()
    child = os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", "sleep 0.1; echo word"],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)],
    )
    os.close(writing)
    assert os.read(reading, 100) == b"word\n"
    os.close(reading)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@probe(raises=subprocess.CalledProcessError)
def failed() -> None:
    subprocess.run([sys.executable, "-I", "-c", "raise SystemExit(1)"], check=True)


@probe(raises=FileNotFoundError)
def unknown_program() -> None:
    subprocess.run(["no-such-program"], check=False)


@probe(raises=subprocess.TimeoutExpired)
def timeout() -> None:
    subprocess.run(["sleep", "5"], timeout=0.1, check=False)


@probe(raises=subprocess.TimeoutExpired)
def timeout_of_output() -> None:
    subprocess.run(["sleep", "5"], timeout=0.1, check=False, capture_output=True)


@probe(slow=True)
def slow() -> None:
    assert subprocess.run(["sleep", "0.3"], check=True).returncode == 0


@probe(slow=True)
def slow_output() -> None:
    assert subprocess.check_output(["sh", "-c", "sleep 0.3; echo slow"]) == b"slow\n"
