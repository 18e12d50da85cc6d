"""The recipes that `tests.perf.optimize` compares: each technique alone, and together."""

from __future__ import annotations

import msgspec
import yaml
from devcluster.paths import REPO

from optimodel.api.spec import Optimization, RecipeRef, RecipeSpec
from optimodel.api.steps import QAT, Distill, FineTune, Prune, Quantize, Recover, Step, Training
from optimodel.recipes.resolve import resolve

TRAIN = "questions/train"
BASELINE = "fp32 baseline"
HEADLINE = "encoder-distil-int8"
LIBRARY = (HEADLINE, f"{HEADLINE}-trimmed", "encoder-distil-ffn-int8", "encoder-tiny-int8")
"""Recipes of the chart's library."""
TOGETHER = (
    *LIBRARY,
    "2 layers, int8",
    "2 layers, int8, vocabulary trimmed",
)
"""What is held against the headline's bars."""
EXPORT = Step("graph", "Export")
INT8 = Step("int8", "Quantize")


def recipes(seed: int) -> dict[str, tuple[Step, ...]]:
    """Name → steps from the source; all begin with the same fine-tuning, whose result in ONNX is the baseline."""
    alone = {
        BASELINE: (EXPORT,),
        "int8 dynamic": (EXPORT, INT8),
        "int8 dynamic, tables in 4 bits": (EXPORT, _quantize("Dynamic", embedding_bits=4)),
        "int8 static": (EXPORT, _quantize("Static", data=TRAIN)),
        "int8 static, FFN-down in fp32": (EXPORT, _quantize("Static", data=TRAIN, exclude=("FFNDown",))),
        "weights in 8 bits": (EXPORT, _quantize("WeightOnly")),
        "weights in 4 bits": (EXPORT, _quantize("WeightOnly", bits=4)),
        "weights in 4 bits, GPTQ": (EXPORT, _quantize("GPTQ", bits=4, data=TRAIN)),
        "weights in 4 bits, AWQ": (EXPORT, _quantize("AWQ", bits=4, data=TRAIN)),
        "weights in 4 bits, trained for them": (aware(seed), EXPORT, _quantize("WeightOnly", bits=4)),
        "fp16": (EXPORT, _quantize("Float16")),
        "vocabulary of the training text": (vocabulary(), EXPORT),
        "FFN 50 %, recovered": (ffn("0.5", seed), EXPORT),
        "3 of 6 layers, distilled": (distil((), seed), EXPORT),
        "3 of 6 layers, from labels alone": (distil((), seed, soft="0", hidden="0"), EXPORT),
    }
    combined = ((distil((3, 5), seed), *words, EXPORT, INT8) for words in ((), (vocabulary(),)))
    ours = alone | dict(zip(TOGETHER[len(LIBRARY) :], combined, strict=True))
    return {name: (adapt(seed), *steps) for name, steps in ours.items()} | {name: named(name, seed) for name in LIBRARY}


def named(name: str, seed: int) -> tuple[Step, ...]:
    """The steps of a recipe of the library, as a revision would keep them, but with this seed in every training."""
    path = REPO / "charts" / "optimodel" / "files" / "recipes" / f"{name}.yaml"
    recipe = msgspec.convert(yaml.safe_load(path.read_text())["spec"], RecipeSpec)
    given = {"train": TRAIN, "test": "questions/test"}
    declared = {parameter.name for parameter in recipe.parameters}
    parameters = {key: value for key, value in given.items() if key in declared}
    found = resolve("TextClassification", Optimization(recipe_ref=RecipeRef(name=name), parameters=parameters), recipe)
    if found.problems:
        raise SystemExit(found.problems[0].message)
    return tuple(_seeded(step, seed) for step in found.optimization.steps)


def adapt(seed: int) -> Step:
    """What makes the source the fine-tuned model."""
    return Step("adapt", "FineTune", fine_tune=FineTune(TRAIN, training=Training(epochs=4, seed=seed)))


def _seeded(step: Step, seed: int) -> Step:
    for member in ("fine_tune", "distill", "qat"):
        settings = getattr(step, member)
        if settings is not None:
            training = msgspec.structs.replace(settings.training, seed=seed)
            return msgspec.structs.replace(step, **{member: msgspec.structs.replace(settings, training=training)})
    if step.prune is not None and step.prune.recover is not None:
        training = msgspec.structs.replace(step.prune.recover.training, seed=seed)
        recover = msgspec.structs.replace(step.prune.recover, training=training)
        return msgspec.structs.replace(step, prune=msgspec.structs.replace(step.prune, recover=recover))
    return step


def distil(layers: tuple[int, ...], seed: int, soft: str = "0.9", hidden: str = "1") -> Step:
    """A student of these layers (none = every other one); many epochs, since each is cheap."""
    training = Training(epochs=12, learning_rate="0.0003", seed=seed)
    return Step("small", "Distill", distill=Distill(TRAIN, layers, soft=soft, hidden=hidden, training=training))


def ffn(keep: str, seed: int) -> Step:
    """This share of the intermediate neurons, recovered by distillation."""
    recover = Recover(TRAIN, training=Training(epochs=4, learning_rate="0.0002", seed=seed))
    return Step("thin", "Prune", prune=Prune("FFN", keep, TRAIN, recover))


def aware(seed: int) -> Step:
    """Training through the rounding to 4 bits."""
    training = Training(epochs=2, learning_rate="0.00002", seed=seed)
    return Step("aware", "QAT", qat=QAT(TRAIN, "WeightOnly", bits=4, training=training))


def vocabulary() -> Step:
    """The tokens of the training text, and what spells any other word."""
    return Step("words", "Prune", prune=Prune("Vocabulary", data=TRAIN))


def _quantize(method: str, **settings: object) -> Step:
    return Step("small-numbers", "Quantize", quantize=Quantize(method, **settings))  # type: ignore[arg-type]
