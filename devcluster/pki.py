"""Certificates and kubeconfigs of a cluster, made with the openssl command."""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
DAYS = ["-days", "3650"]


def openssl(*arguments: str | Path) -> None:
    """Run openssl quietly; raises CalledProcessError with its words in ``stderr``."""
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Pki:
    """A folder of certificates; whatever is there already is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """Return the path of a file in the folder."""
        return self.folder / name

    def authority(self, name: str) -> None:
        """Make a self-signed certificate authority ``NAME.crt`` and ``NAME.key``."""
        if not self.path(f"{name}.crt").exists():
            out: list[str | Path] = ["-keyout", self.path(f"{name}.key"), "-out", self.path(f"{name}.crt")]
            openssl("req", "-x509", *CURVE, *DAYS, "-subj", f"/CN=optimodel-{name}", *out)

    def certificate(self, name: str, subject: str, san: str = "DNS:unused", ca: str = "ca") -> None:
        """Make ``NAME.crt`` and ``NAME.key`` signed by ``ca``, for servers and clients alike."""
        if self.path(f"{name}.crt").exists():
            return
        with tempfile.TemporaryDirectory() as scratch:
            request, extensions, partial = Path(scratch, "csr"), Path(scratch, "ext"), Path(scratch, "crt")
            extensions.write_text(f"subjectAltName={san}\nextendedKeyUsage=serverAuth,clientAuth\n")
            openssl("req", *CURVE, "-subj", subject, "-keyout", self.path(f"{name}.key"), "-out", request)
            signer: list[str | Path] = [
                "-CA",
                self.path(f"{ca}.crt"),
                "-CAkey",
                self.path(f"{ca}.key"),
                "-CAcreateserial",
            ]
            openssl("x509", "-req", "-in", request, *signer, *DAYS, "-extfile", extensions, "-out", partial)
            self.path(f"{name}.crt").write_bytes(partial.read_bytes())

    def token_keys(self) -> None:
        """Make the key pair that signs service account tokens, ``sa.key`` and ``sa.pub``."""
        if not self.path("sa.pub").exists():
            openssl("genrsa", "-out", self.path("sa.key"), "2048")
            openssl("rsa", "-in", self.path("sa.key"), "-pubout", "-out", self.path("sa.pub"))

    def kubeconfig(self, name: str, server: str, target: Path) -> Path:
        """Write a kubeconfig with the certificates inside, so that it can be copied anywhere."""

        def data(file: str) -> str:
            return base64.b64encode(self.path(file).read_bytes()).decode()

        cluster = {"server": server, "certificate-authority-data": data("ca.crt")}
        user = {"client-certificate-data": data(f"{name}.crt"), "client-key-data": data(f"{name}.key")}
        return write_kubeconfig(target, cluster, user)


def write_kubeconfig(target: Path, cluster: Mapping[str, str], user: Mapping[str, str]) -> Path:
    """Write a kubeconfig of one cluster and one user (JSON is YAML) that only its owner can read."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "optimodel", "cluster": cluster}],
        "users": [{"name": "optimodel", "user": user}],
        "contexts": [{"name": "optimodel", "context": {"cluster": "optimodel", "user": "optimodel"}}],
        "current-context": "optimodel",
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document, indent=1))
    target.chmod(0o600)
    return target
