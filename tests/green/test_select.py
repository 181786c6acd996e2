"""`select`, `poll` and `epoll` that leave the loop free, and are the stdlib's otherwise."""

from __future__ import annotations

import errno
import fcntl
import os
import select as stdlib
import socket
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from conftest import Loop

from green.together import beside, cancelled, together
from verdigris import async_def
from verdigris.green import select, time  # type: ignore[attr-defined]
from verdigris.green._wait import is_green

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    a, b = socket.socketpair()
    with a, b:
        yield a, b


def by_select(fd: int, timeout: float | None) -> bool:
    return bool(select.select([fd], [], [], timeout)[0])


def by_poll(fd: int, timeout: float | None) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000) == [(fd, select.POLLIN)])


def by_epoll(fd: int, timeout: float | None) -> bool:
    with select.epoll() as epoll:
        epoll.register(fd, select.EPOLLIN)
        return bool(epoll.poll(timeout) == [(fd, select.EPOLLIN)])


ways = pytest.mark.parametrize("readable", [by_select, by_poll, by_epoll])
Way = Callable[[int, float | None], bool]


@ways
@pytest.mark.parametrize("timeout", [None, 60, 60.5])
def test_waits_for_another_function(
    loop: Loop, pair: Pair, readable: Way, timeout: float | None
) -> None:
    def write() -> None:
        time.sleep(0.02)
        pair[1].send(b"x")

    assert together(loop, lambda: readable(pair[0].fileno(), timeout), write)[0] is True


@ways
def test_timeout_leaves_the_loop_free(loop: Loop, pair: Pair, readable: Way) -> None:
    assert beside(loop, lambda: readable(pair[0].fileno(), 0.2)) is False


@ways
def test_zero_and_ready_do_not_touch_the_loop(loop: Loop, pair: Pair, readable: Way) -> None:
    order: list[str] = []

    def first() -> None:
        order.append("begins")
        assert not readable(pair[0].fileno(), 0)
        pair[1].send(b"x")
        assert readable(pair[0].fileno(), None)
        order.append("ends")

    together(loop, first, lambda: order.append("another"))
    assert order.index("ends") == order.index("begins") + 1


@ways
def test_who_always_finds_something_ready_gives_way(loop: Loop, pair: Pair, readable: Way) -> None:
    ended = False
    pair[1].send(b"x")

    def ask() -> bool:
        for _ in range(100_000):
            readable(pair[0].fileno(), None)
            if ended:
                return True
        return False

    def other() -> None:
        nonlocal ended
        for _ in range(3):
            time.sleep(0.001)
        ended = True

    assert together(loop, ask, other)[0]


@ways
def test_cancelled_while_it_waits(loop: Loop, pair: Pair, readable: Way) -> None:
    assert cancelled(loop, lambda: readable(pair[0].fileno(), None), lambda: True)


@ways
def test_outside_of_green_functions_it_is_the_stdlibs(pair: Pair, readable: Way) -> None:
    assert not is_green()
    assert readable(pair[0].fileno(), 0.01) is False
    pair[1].send(b"x")
    assert readable(pair[0].fileno(), None) is True


@ways
def test_many_wait_at_once(loop: Loop, readable: Way) -> None:
    pairs = [socket.socketpair() for _ in range(20)]
    got: list[int] = []

    def reader(number: int) -> None:
        assert readable(pairs[number][0].fileno(), None)
        got.append(number)
        if number:
            pairs[number - 1][1].send(b"x")

    try:
        # Each lets the one before it go on: one that blocked the loop would end the chain.
        def last() -> None:
            time.sleep(0.01)
            pairs[19][1].send(b"x")

        together(loop, *(lambda n=n: reader(n) for n in range(20)), last)
    finally:
        for a, b in pairs:
            a.close()
            b.close()
    assert got == list(range(19, -1, -1))


def same_error(loop: Loop, call: Callable[[Any], object]) -> type[BaseException]:
    """What `call` raises with the stdlib's module: the green one raises the same."""

    def raised(module: Any) -> BaseException:
        with pytest.raises(Exception) as info:  # noqa: PT011
            call(module)
        return info.value

    expected = raised(stdlib)
    got = loop.run(lambda: async_def(raised, select))
    assert (type(got), str(got)) == (type(expected), str(expected))
    return type(got)


def a_closed_descriptor() -> int:
    reader, writer = os.pipe()
    # A number that nothing gets by itself, as the reactor's own descriptor might.
    closed = fcntl.fcntl(reader, fcntl.F_DUPFD, 700)
    for fd in (reader, writer, closed):
        os.close(fd)
    return closed


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.select(1, [], []),
        lambda m: m.select([], [object()], []),
        lambda m: m.select([-1], [], []),
        lambda m: m.select([a_closed_descriptor()], [], []),
        lambda m: m.select([], [], [], "1"),
        lambda m: m.select([], [], [], -1),
        lambda m: m.select([], [], [], float("nan")),
        lambda m: m.select([], [], [], 1e300),
        lambda m: m.poll().register(-1),
        lambda m: m.poll().register("x"),
        lambda m: m.poll().register(0, -1),
        lambda m: m.poll().modify(0, 1),
        lambda m: m.poll().unregister(0),
        lambda m: m.poll().poll("1"),
        lambda m: m.poll().poll(1e300),
        lambda m: m.poll().poll(2**31 if sys.version_info < (3, 15) else 2**63),  # 3.15 has ppoll
        lambda m: m.epoll(-2),
        lambda m: m.epoll().poll("1"),
        lambda m: m.epoll().poll(1e300),
        lambda m: m.epoll().poll(1, 0),
        lambda m: m.epoll().poll(1, -2),
        lambda m: m.epoll().register(a_closed_descriptor(), 1),
        lambda m: m.epoll().unregister(0),
        lambda m: m.epoll.fromfd("x"),
    ],
)
def test_bad_arguments_raise_what_the_stdlib_raises(
    loop: Loop, call: Callable[[Any], object]
) -> None:
    assert issubclass(same_error(loop, call), Exception)


TAKE_TIMEOUTS = {
    "select": lambda m, timeout: m.select([], [], [], timeout),
    "poll": lambda m, timeout: m.poll().poll(timeout),
    "epoll": lambda m, timeout: m.epoll().poll(timeout),
}


@pytest.mark.parametrize("timeout", [Decimal("0.01"), Fraction(1, 100)], ids=repr)
@pytest.mark.parametrize("wait", TAKE_TIMEOUTS.values(), ids=TAKE_TIMEOUTS)
def test_numbers_that_the_stdlib_takes_for_a_timeout(
    loop: Loop, wait: Callable[[Any, Any], object], timeout: Any
) -> None:
    """All that are real from 3.15 on, and only integers and floats before."""
    if sys.version_info < (3, 15):
        assert same_error(loop, lambda module: wait(module, timeout)) is TypeError
    else:
        assert loop.run(lambda: async_def(wait, select, timeout)) == wait(stdlib, timeout)


def closed_epoll(module: Any) -> Any:
    epoll = module.epoll()
    epoll.close()
    epoll.close()
    assert epoll.closed
    return epoll


@pytest.mark.parametrize(
    "use",
    [lambda e: e.poll(1), lambda e: e.register(0), lambda e: e.fileno(), lambda e: e.__enter__()],
)
def test_closed_epoll(loop: Loop, use: Callable[[Any], object]) -> None:
    assert same_error(loop, lambda module: use(closed_epoll(module))) is ValueError


def test_poll_tells_of_a_closed_descriptor(loop: Loop) -> None:
    def closed() -> object:
        fd = a_closed_descriptor()
        poll = select.poll()
        poll.register(fd)
        return poll.poll() == [(fd, select.POLLNVAL)]

    assert together(loop, closed) == [True]


def test_poll_is_not_for_two_at_once(loop: Loop, pair: Pair) -> None:
    poll = select.poll()
    poll.register(pair[0], select.POLLIN)

    def second() -> str:
        time.sleep(0.02)
        with pytest.raises(RuntimeError) as info:
            poll.poll(0)
        pair[1].send(b"x")
        return str(info.value)

    first, second_got = together(loop, poll.poll, second)
    assert first == [(pair[0].fileno(), select.POLLIN)]
    assert second_got == "concurrent poll() invocation"
    assert poll.poll(0) == first


@pytest.mark.parametrize("timeout", [None, -1, -0.5])
def test_poll_waits_for_ever_with_none_and_less_than_nothing(
    loop: Loop, pair: Pair, timeout: float | None
) -> None:
    poll, epoll = select.poll(), select.epoll()
    poll.register(pair[0], select.POLLIN)
    epoll.register(pair[0], select.EPOLLIN)

    def write() -> None:
        time.sleep(0.03)
        pair[1].send(b"x")

    one, two, _ = together(loop, lambda: poll.poll(timeout), lambda: epoll.poll(timeout), write)
    epoll.close()
    assert one == two == [(pair[0].fileno(), 1)]


def test_poll_counts_in_milliseconds(loop: Loop, pair: Pair) -> None:
    poll = select.poll()
    poll.register(pair[0], select.POLLIN)

    async def main() -> Any:
        async with loop.deadline(30):
            return await async_def(poll.poll, 50)

    assert loop.run(main) == []


def test_modify_and_unregister_count(loop: Loop, pair: Pair) -> None:
    poll = select.poll()

    def body() -> None:
        poll.register(pair[0], select.POLLOUT)
        poll.modify(pair[0], select.POLLIN)
        assert poll.poll(10) == []
        pair[1].send(b"x")
        assert len(poll.poll()) == 1
        poll.unregister(pair[0])
        assert poll.poll(10) == []

    together(loop, body)


def test_an_epoll_that_gets_a_descriptor_while_it_waits(loop: Loop, pair: Pair) -> None:
    epoll = select.epoll()
    pair[1].send(b"x")

    def add() -> None:
        time.sleep(0.02)
        epoll.register(pair[0], select.EPOLLIN | select.EPOLLET)

    got, _ = together(loop, epoll.poll, add)
    epoll.close()
    assert got == [(pair[0].fileno(), select.EPOLLIN)]


def test_epoll_of_a_descriptor(loop: Loop, pair: Pair) -> None:
    with select.epoll(sizehint=3) as owner:
        other = select.epoll.fromfd(os.dup(owner.fileno()))
        owner.register(pair[0], select.EPOLLOUT)
        assert together(loop, lambda: other.poll(maxevents=1)) == [
            [(pair[0].fileno(), select.EPOLLOUT)]
        ]
        other.close()
    assert owner.closed


def test_either_epoll_is_one() -> None:
    with select.epoll() as green, stdlib.epoll() as plain:
        assert isinstance(green, select.epoll)
        assert isinstance(plain, select.epoll)
        assert not isinstance(1, select.epoll)


@pytest.fixture
def tcp() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        other, _ = server.accept()
        with client, other:
            yield client, other


def urgent_by_select(fd: int) -> bool:
    return bool(select.select([], [], [fd])[2])


def urgent_by_poll(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLPRI)
    return bool(poll.poll()[0][1] & select.POLLPRI)


@pytest.mark.parametrize("urgent", [urgent_by_select, urgent_by_poll])
def test_urgent_data(loop: Loop, tcp: Pair, urgent: Callable[[int], bool]) -> None:
    def write() -> None:
        time.sleep(0.02)
        tcp[1].send(b"!", socket.MSG_OOB)

    assert together(loop, lambda: urgent(tcp[0].fileno()), write)[0] is True


@pytest.mark.parametrize("mask", [stdlib.POLLRDHUP, 0], ids=["rdhup", "errors"])
def test_a_peer_that_goes_away(loop: Loop, tcp: Pair, mask: int) -> None:
    poll = select.poll()
    poll.register(tcp[0], mask)

    def leave() -> None:
        time.sleep(0.02)
        tcp[1].shutdown(socket.SHUT_RDWR)
        tcp[0].shutdown(socket.SHUT_WR)

    ((_, got),) = together(loop, lambda: poll.poll(60_000), leave)[0]
    assert got & (stdlib.POLLRDHUP | stdlib.POLLHUP)


def test_regular_files_are_always_ready(loop: Loop, tmp_path: Any, pair: Pair) -> None:
    with (tmp_path / "file").open("w+") as file:

        def body() -> None:
            assert select.select([file, pair[0]], [], []) == ([file], [], [])
            # Never urgent: this one is not waited for, and stops nobody.
            assert select.select([pair[0]], [], [file], 0.01) == ([], [], [])
            with select.epoll() as epoll, pytest.raises(PermissionError):
                epoll.register(file)

        together(loop, body)


def test_iterators_and_the_objects_themselves(loop: Loop, pair: Pair) -> None:
    def body() -> Any:
        return select.select(iter([pair[0]]), (s for s in pair), set(), 60)

    assert together(loop, body) == [([], list(pair), [])]


def test_nothing_to_wait_for_is_a_sleep(loop: Loop) -> None:
    assert beside(loop, lambda: select.select([], [], [], 0.1), beats=3) == ([], [], [])


def test_an_error_number_stays(loop: Loop) -> None:
    def body() -> int | None:
        with pytest.raises(OSError, match="descriptor") as info:
            select.select([a_closed_descriptor()], [], [])
        return info.value.errno

    assert together(loop, body) == [errno.EBADF]
