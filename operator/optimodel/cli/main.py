"""The command line: `status` and the actions."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from ..adapters.kube import Kube
from ..api import names
from ..errors import ApiError, TooMany, Transient
from . import kubeconfig, view

KIND = "OptimizedModel"
VERBS = {
    "approve": "pass the approval that the rollout waits for",
    "promote": "skip the remaining steps of the rollout",
    "abort": "take the rollout back",
    "pause": "keep the present weights",
    "resume": "go on after pause",
    "retry": "try a failed revision again",
}
POLL_S = 0.5
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"


class Refused(Exception):
    """What is asked makes no sense, or not now; the message says why."""


def action(verb: str, om: view.Obj, now: datetime) -> str:
    """The annotation that asks for `verb` on what the object is doing now. Raises `Refused`."""
    status = om.get("status", {})
    rollout = status.get("rollout") or {}
    if verb == "retry":
        target = status.get("revision", "")
    else:
        target = rollout.get("candidate", "")
    if verb == "retry" and om["spec"].get("suspend"):
        raise Refused("nothing to retry: spec.suspend is true. Set it to false")
    if rollout.get("phase") == "RollingBack" and verb != "retry":
        raise Refused(f"nothing to {verb}: the rollout is going back already")
    if not target:
        raise Refused(
            f"nothing to {verb}: " + ("there is no revision" if verb == "retry" else "no rollout is going on")
        )
    if verb == "approve":
        if rollout["phase"] != "AwaitingApproval":
            raise Refused(f"nothing to approve: the rollout is in phase {rollout['phase']}")
        target += "/" + rollout.get("stepName", "")
    return f"{verb} {target} {now.astimezone(UTC).isoformat(timespec='milliseconds')}"


async def act(kube: Kube, namespace: str, name: str, verb: str) -> str:
    """Write the annotation for `verb`; what was written. Raises `Refused`, `ApiError`."""
    om = await kube.get(KIND, namespace, name)
    text = action(verb, om, datetime.now(UTC))
    await kube.patch(KIND, namespace, name, {"metadata": {"annotations": {names.ACTION: text}}})
    return text


async def follow(kube: Kube, namespace: str, name: str) -> int:
    """Print what changes until the object is Ready (0) or Stalled (1). An API server that is away for a while is waited for."""
    seen: dict[str, str] = {}
    began = time.monotonic()
    away = False
    while True:
        try:
            om = await kube.get(KIND, namespace, name)
        except (Transient, TooMany) as error:
            if not away:
                print(f"{time.monotonic() - began:7.1f} s  waiting for the API server: {error}", flush=True)
            away = True
            await asyncio.sleep(POLL_S)
            continue
        away = False
        for line in view.changes(seen, om):
            print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)
        if view.is_ready(om) or view.is_stalled(om):
            print(*view.table(om), sep="\n")
            return 0 if view.is_ready(om) else 1
        await asyncio.sleep(POLL_S)


def check_names(namespace: str, name: str) -> None:
    """Raises `Refused` for what names no object: asked for, it would be another path of the API server."""
    if len(namespace) > 63 or not re.fullmatch(_LABEL, namespace):
        raise Refused(
            f"{namespace!r} is no namespace: give -n up to 63 of a-z, 0-9 and '-', a letter or digit at either end"
        )
    if len(name) > 253 or not re.fullmatch(_SUBDOMAIN, name):
        raise Refused(
            f"{name!r} is no name of an object: give up to 253 of a-z, 0-9, '-' and '.', a letter or digit at either end"
            " of each part; kubectl get om lists them"
        )


async def run(options: argparse.Namespace) -> int:
    """Do what the command line asks; the exit code."""
    try:
        context, namespace = kubeconfig.present()
        if options.namespace is None:
            options.namespace = namespace
        check_names(options.namespace, options.name)
        kube = await Kube.connect(context)
        try:
            return await _do(kube, options)
        finally:
            await kube.close()
    except (Refused, ApiError) as error:
        print(error, file=sys.stderr)
        return 1


async def _do(kube: Kube, options: argparse.Namespace) -> int:
    if options.command != "status":
        text = await act(kube, options.namespace, options.name, options.command)
        print("asked to", " ".join(text.split()[:2]) + f"; see it go: kubectl optimodel status -w {options.name}")
        return 0
    if options.watch:
        return await follow(kube, options.namespace, options.name)
    print(*view.summary(await kube.get(KIND, options.namespace, options.name)), sep="\n")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, parsed."""
    shared, where = argparse.ArgumentParser(add_help=False), "default: that of the kubeconfig's context"
    shared.add_argument("name", help="name of the OptimizedModel")
    shared.add_argument("-n", "--namespace", default=argparse.SUPPRESS, help=where)
    parser = argparse.ArgumentParser(
        prog="kubectl optimodel", description="See how a model stands, and act on its rollout."
    )
    parser.add_argument("-n", "--namespace", help=where)
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", parents=[shared], help="how the model stands")
    status.add_argument("-w", "--watch", action="store_true", help="print changes until it is Ready or Stalled")
    for verb, text in VERBS.items():
        commands.add_parser(verb, parents=[shared], help=text)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `kubectl-optimodel`."""
    try:
        return asyncio.run(run(parse(arguments)))
    except KeyboardInterrupt:
        return 130
