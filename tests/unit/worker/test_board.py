"""The progress page over HTTP."""

import json
import socket
import struct
import threading
import time
import urllib.request

import pytest

from optimodel.api import contract
from optimodel.api.contract import Progress
from optimodel.worker import board


class Slow:
    """A board whose page is written only when it is told to."""

    def __init__(self) -> None:
        self.asked, self.answer = threading.Event(), threading.Event()

    def page(self) -> Progress:
        self.asked.set()
        self.answer.wait(10)
        return Progress("Optimize", ())


def test_a_reader_that_does_not_wait_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    slow = Slow()
    server = board.serve(slow, 0)  # type: ignore[arg-type]
    port = server.server_address[1]
    before = set(threading.enumerate())
    with socket.create_connection(("127.0.0.1", port)) as reader:
        reader.sendall(f"GET {contract.PROGRESS_PATH} HTTP/1.0\r\n\r\n".encode())
        assert slow.asked.wait(10)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handlers = set(threading.enumerate()) - before
    slow.answer.set()
    deadline = time.monotonic() + 10
    for thread in handlers:
        thread.join(deadline - time.monotonic())
    assert handlers and not any(thread.is_alive() for thread in handlers)
    assert capfd.readouterr().err == ""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{contract.PROGRESS_PATH}", timeout=10) as answer:
        assert json.load(answer)["phase"] == "Optimize", "the next one is answered"
    server.shutdown()
    server.server_close()
