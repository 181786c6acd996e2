"""`logging`."""

import io
import logging
import logging.handlers
import queue
import threading
import time
import uuid

from libraries.probe import probe


@probe
def lines_of_several_threads() -> None:
    output = io.StringIO()
    logger = logging.getLogger(uuid.uuid4().hex)
    logger.propagate = False
    handler = logging.StreamHandler(output)
    handler.setFormatter(logging.Formatter("%(threadName)s: %(message)s"))
    logger.addHandler(handler)

    def work() -> None:
        for number in range(3):
            logger.warning("line %d", number)
            time.sleep(0.001)

    workers = [threading.Thread(target=work, name=f"worker {n}") for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(output.getvalue().splitlines()) == sorted(
        f"worker {n}: line {number}" for n in range(3) for number in range(3)
    )


@probe
def handler_that_waits() -> None:
    lines = []

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.msg} begins")
            time.sleep(0.01)  # under the handler's lock
            lines.append(f"{record.msg} ends")

    logger = logging.getLogger(uuid.uuid4().hex)
    logger.propagate = False
    logger.addHandler(Slow())
    workers = [threading.Thread(target=logger.error, args=(str(n),)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [line.split()[0] for line in lines[::2]] == [line.split()[0] for line in lines[1::2]]


@probe
def through_a_queue() -> None:
    output = io.StringIO()
    logger = logging.getLogger(uuid.uuid4().hex)
    logger.propagate = False
    queued: queue.Queue[logging.LogRecord] = queue.Queue()
    logger.addHandler(logging.handlers.QueueHandler(queued))
    listener = logging.handlers.QueueListener(queued, logging.StreamHandler(output))
    listener.start()
    for number in range(5):
        logger.warning("line %d", number)
    listener.stop()
    assert output.getvalue() == "".join(f"line {number}\n" for number in range(5))


@probe(slow=True)
def slow() -> None:
    class Slow(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            time.sleep(0.3)

    logger = logging.getLogger(uuid.uuid4().hex)
    logger.propagate = False
    logger.addHandler(Slow())
    logger.error("slow")
