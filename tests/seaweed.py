"""A real S3 server for tests: SeaweedFS on loopback, stopped by its pid."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import obstore
from devcluster.binaries import binary
from obstore.store import S3Store

from optimodel.api.sources import S3

KEY, SECRET = "tester", "tester-secret"


@dataclass(frozen=True)
class Seaweed:
    """The running server."""

    endpoint: str

    def environ(self, role: str) -> dict[str, str]:
        """Credentials of a role as a pod would have them."""
        prefix = role.upper().replace("-", "_")
        return {f"{prefix}_AWS_ACCESS_KEY_ID": KEY, f"{prefix}_AWS_SECRET_ACCESS_KEY": SECRET}

    def s3(self, url: str) -> S3:
        """A place on this server."""
        return S3(url, endpoint=self.endpoint)

    def client(self, bucket: str) -> S3Store:
        """A client of the bucket."""
        return S3Store(
            bucket,
            endpoint=self.endpoint,
            access_key_id=KEY,
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
        )

    def upload(self, bucket: str, prefix: str, folder: Path) -> None:
        """Put a folder's files under a prefix."""
        client = self.client(bucket)
        for path in folder.rglob("*"):
            if path.is_file():
                obstore.put(client, f"{prefix}/{path.relative_to(folder).as_posix()}", path)


def free_port() -> int:
    """A loopback port that nobody listens on (nor on it + 10000, which SeaweedFS takes for gRPC)."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port + 10000 < 65536:
                try:
                    two.bind(("127.0.0.1", port + 10000))
                except OSError:
                    continue
                return int(port)


@contextmanager
def seaweed(folder: Path, buckets: tuple[str, ...] = ("models",)) -> Iterator[Seaweed]:
    """Run a server with its data in `folder` until the block ends."""
    access = {"credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin", "Read", "Write", "List"]}
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [{"name": "tester", **access}]}))
    data = folder / "data"
    data.mkdir()
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    command = [str(binary("weed")), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data}", "-s3"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # fixed ports, which two servers on a machine cannot share
    command += ["-volume.max=100", f"-s3.config={config}", "-master.volumeSizeLimitMB=64"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        server = Seaweed(f"http://127.0.0.1:{ports['s3']}")
        try:
            for bucket in buckets:
                _create_bucket(server, bucket, process, folder / "weed.log")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _create_bucket(server: Seaweed, bucket: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """SeaweedFS makes a bucket with its first object; try until one can be written."""
    deadline = time.monotonic() + 60
    while True:
        try:
            obstore.put(server.client(bucket), ".ready", b"")
            return
        except Exception as error:
            if time.monotonic() > deadline or process.poll() is not None:
                raise AssertionError(f"SeaweedFS did not come up: {error}\n{log.read_text()[-1500:]}") from error
            time.sleep(0.2)
