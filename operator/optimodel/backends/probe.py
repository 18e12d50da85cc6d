"""One real inference, asked of the Triton in the same pod: exit status 0 for a sensible answer, else 1 with the reason.

Usage: `[OPTIMODEL_PROBE_SECONDS=N] python3 -S -E probe.py [PORT]`. The settings beside this file name the model, its input, what to ask
it and what else is asked, its outputs and their sizes. Standard library only: it runs every few seconds.
"""

import json
import os
import socket
import sys

TIMEOUT_S = 4.0


def ask(model, name, text, port, more, seconds):
    """The outputs by name, as flat lists. Raises `OSError` or `ValueError`. By hand over a socket: `http.client` takes
    several times the CPU of the whole probe to import."""
    given = {"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [text]}
    body = json.dumps({"inputs": [given, *more]}).encode()
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        connection.sendall(head.encode() + body)
        with connection.makefile("rb") as stream:
            status = stream.readline().split(b" ", 2)
            length = 0
            while line := stream.readline().strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line[15:])
            payload = stream.read(length)
    if len(status) < 2 or status[1] != b"200":
        reason = b" ".join(status[1:]).decode(errors="replace").strip()
        raise ValueError(f"HTTP {reason}: {payload[:300].decode(errors='replace')}")
    return {output["name"]: output["data"] for output in json.loads(payload)["outputs"]}


def judge(answer, sizes):
    """Raise `ValueError` unless every output has its size (-1 = one value or more) and numbers are finite."""
    for name, size in sizes.items():
        values = answer.get(name, [])
        if not values or len(values) != size > 0:
            raise ValueError(f"{name} has {len(values)} values instead of {size if size > 0 else 'some'}")
        if not all(isinstance(v, str) or (v is not None and abs(v) < 1e38) for v in values):
            raise ValueError(f"{name} has values that are not finite")


def main(arguments):
    """Ask once and judge. Returns the exit status."""
    try:
        with open(__file__.removesuffix(".py") + ".json") as handle:
            settings = json.load(handle)
        port = int(arguments[0]) if arguments else 8000
        seconds = float(os.environ.get("OPTIMODEL_PROBE_SECONDS", TIMEOUT_S))
        answer = ask(settings["model"], settings["input"], settings["question"], port, settings["inputs"], seconds)
        judge(answer, settings["outputs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"no answer: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
