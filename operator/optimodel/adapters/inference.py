"""Asks a Triton pod one real question: is the model loaded, and does the artifact's golden answer come back?"""

from __future__ import annotations

from typing import Any

import msgspec

from ..plan.types import ProbeResult, ProbeTarget
from .polling import Oversized, PodHttp, Unknown

RETRY = 0.5
"""Seconds between questions until the answer is right."""
LIMIT = 1024 * 1024
"""Bytes of an answer. Triton writes a value with some 20 digits: about 50 000 values."""


def compare(answer: dict[str, Any], target: ProbeTarget) -> ProbeResult:
    """Whether the remembered values of the answer's golden output are as the artifact's, within tolerance."""
    outputs = {output.get("name"): output.get("data") or [] for output in answer.get("outputs") or ()}
    if target.golden_output not in outputs:
        return ProbeResult(
            False, f"the answer has no output {target.golden_output}, only {', '.join(sorted(map(str, outputs)))}"
        )
    data, bound = outputs[target.golden_output], float(target.tolerance)
    places = target.golden_places or range(len(target.golden_head))
    least = max(places, default=-1) + 1
    if len(data) < least:
        return ProbeResult(False, f"output {target.golden_output} has {len(data)} values, {least} expected")
    for at, wanted in zip(places, target.golden_head, strict=False):
        if not abs(float(data[at]) - float(wanted)) <= bound:
            return ProbeResult(
                False,
                f"value {at} of {target.golden_output} is {data[at]}, the artifact's is {wanted} ± {target.tolerance}",
            )
    return ProbeResult(True)


def question(target: ProbeTarget) -> list[dict[str, Any]]:
    """The inputs that the golden answer belongs to."""
    text = {"name": target.input, "datatype": "BYTES", "shape": [1, 1], "data": [target.golden_text]}
    length = {"name": "MAX_TOKENS", "datatype": "INT32", "shape": [1, 1], "data": [target.max_tokens]}
    return [text, length] if target.max_tokens else [text]


class Inference:
    """Questions to pods over HTTP."""

    def __init__(self, http: PodHttp) -> None:
        self._http = http

    async def ask(self, target: ProbeTarget) -> ProbeResult:
        """The pod's answer, judged; raises Unknown when it gave none."""
        base = f"{target.url.rstrip('/')}/v2/models/{target.model}"
        status, _ = await self._http.call("GET", f"{base}/versions/1/ready")
        if status != 200:
            return ProbeResult(False, f"model {target.model} is not ready (status {status})")
        wanted = {"inputs": question(target), "outputs": [{"name": target.golden_output}]}
        try:
            status, body = await self._http.call("POST", f"{base}/infer", wanted, seconds=target.seconds, limit=LIMIT)
        except Oversized:
            return ProbeResult(
                False,
                f"output {target.golden_output} takes over {LIMIT} bytes, more than is read: "
                "serve a model with fewer values",
            )
        try:
            answer = msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unknown(f"{base}: not JSON") from error
        if status != 200:
            return ProbeResult(False, f"inference failed (status {status}): {str(answer.get('error', ''))[:300]}")
        try:
            return compare(answer, target)
        except (TypeError, ValueError, AttributeError) as error:
            return ProbeResult(False, f"the answer cannot be read: {error}")


def pause(result: ProbeResult | None) -> float | None:
    """Ask until the answer is right; from then on the pod's own readiness probe watches."""
    return None if result is not None and result.ok else RETRY
