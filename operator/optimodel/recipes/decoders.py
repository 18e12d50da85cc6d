"""What of the recipes is not made for models that write text: nothing is ignored silently."""

from __future__ import annotations

from collections.abc import Iterator

from optimodel.api.steps import FineTune, Step

from .problem import Problem

_BEGINS = "learns what stands ahead of a text, and the cache of the graph that is served begins empty. Use LoRA"
METHODS = {
    "Head": "Head makes a new head for labels, and a model that writes has none. Use LoRA, or Full",
    "PromptTuning": f"PromptTuning {_BEGINS}",
    "PrefixTuning": f"PrefixTuning {_BEGINS}",
}
"""Methods of FineTune that make nothing here → why, and what does."""


def check(step: Step) -> Iterator[Problem]:
    """Every problem of a step whose settings are legal by themselves."""
    for words in _findings(step):
        yield Problem("StepNotForTask", f"Step {step.name!r}: {words}.")


def _findings(step: Step) -> Iterator[str]:
    if step.type == "Prune":
        yield (
            "Prune cuts neither heads that share keys and values nor neurons that have a gate, as those of a model that writes. "
            "Use Distill, whose student has fewer layers, or Quantize to fewer bits"
        )
    if step.type == "QAT":
        yield (
            "QAT knows no rounding of a model that writes, whose table of tokens may be its head too. Remove it, and use "
            "Quantize by GPTQ, which rounds by what that does to data"
        )
    tuned = step.fine_tune or FineTune("")
    if tuned.method in METHODS:
        yield METHODS[tuned.method]
    if tuned.adversarial is not None:
        yield "adversarial counts right labels on rows kept apart, and text that goes on has no labels. Remove it"
