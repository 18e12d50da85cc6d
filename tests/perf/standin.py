"""`python -m tests.perf.standin ADDRESS`: one server that answers for every pod, in the KServe v2 protocol over HTTP/1.1."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from tests.perf.stages import GOLDEN

PORT = 8000


def answer(path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Status and document: every model is ready and knows the golden answer to the golden text, and to no other."""
    if path.endswith("/ready"):
        return 200, {}
    if not path.endswith("/infer"):
        return 404, {"error": f"no such path: {path}"}
    texts = [text for tensor in json.loads(body)["inputs"] for text in tensor["data"]]
    if texts != [GOLDEN.text]:
        return 400, {"error": f"unknown input {texts}"}
    data = [float(value) for value in GOLDEN.head]
    output = {"name": GOLDEN.output, "datatype": "FP32", "shape": [1, len(data)], "data": data}
    return 200, {"model_name": path.split("/")[3], "model_version": "1", "outputs": [output]}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            status, document = answer(first.split(" ")[1], body)
            text = json.dumps(document).encode()
            told = f"HTTP/1.1 {status} .\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
            writer.write(told.encode() + text)
            await writer.drain()
            if headers.get("connection", "").lower() == "close":
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(address: str) -> None:
    """Serve until killed."""
    server = await asyncio.start_server(serve, address, PORT, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
