"""websocket-client."""

import threading
import time
from typing import Any

import websocket

from libraries.probe import probe, servers

HOST = servers.websocket["host"]
PLAIN = f"ws://{HOST}:{servers.websocket['port']}/"
TLS = f"wss://{HOST}:{servers.websocket['tls_port']}/"
TRUSTED = {"ca_certs": servers.certificates["authority"]}


@probe
def echo() -> None:
    connection = websocket.create_connection(PLAIN, timeout=10)
    for message in ("word", "x" * 50_000):
        connection.send(message)
        assert connection.recv() == message
    connection.close()


@probe
def tls() -> None:
    connection = websocket.create_connection(TLS, timeout=10, sslopt=TRUSTED)
    connection.send_binary(b"x" * 50_000)
    assert connection.recv() == b"x" * 50_000
    connection.close()


@probe
def app_in_a_thread() -> None:
    heard = []

    def opened(app: websocket.WebSocketApp) -> None:
        app.send("word")

    def arrived(app: websocket.WebSocketApp, message: str) -> None:
        heard.append(message)
        app.close()

    app = websocket.WebSocketApp(PLAIN, on_open=opened, on_message=arrived)
    thread = threading.Thread(target=app.run_forever, kwargs={"ping_interval": 5})
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert heard == ["word"]


@probe
def one_sends_and_one_receives() -> None:
    connection = websocket.create_connection(PLAIN, timeout=10, enable_multithread=True)
    heard: list[object] = []
    receiver = threading.Thread(
        target=lambda: heard.extend(connection.recv() for _ in range(3)), daemon=True
    )
    receiver.start()
    for number in range(3):
        time.sleep(0.02)
        connection.send(str(number))
    receiver.join(5)
    connection.close()
    assert heard == ["0", "1", "2"]


@probe(raises=websocket.WebSocketTimeoutException)
def read_timeout() -> None:
    connection: Any = websocket.create_connection(PLAIN, timeout=0.2)
    try:
        connection.send("never")
        connection.recv()
    finally:
        connection.shutdown()


@probe(raises=ConnectionRefusedError)
def refused() -> None:
    websocket.create_connection(f"ws://127.0.0.1:{servers.refused}/")


@probe(slow=True)
def slow() -> None:
    connection: Any = websocket.create_connection(PLAIN, timeout=10)
    try:
        connection.send("slow")
        assert connection.recv() == "slow"
    finally:
        connection.shutdown()
