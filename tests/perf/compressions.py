"""The recipes that `tests.perf.optimize` compares: each technique alone, and together."""

from __future__ import annotations

from optimodel.api.spec import Distill, FineTune, Prune, Quantize, Recover, Step, Training

TRAIN = "questions/train"
BASELINE = "fp32 baseline"
HEADLINE = "encoder-distil-int8"
EXPORT = Step("graph", "Export")
INT8 = Step("int8", "Quantize")


def recipes(seed: int) -> dict[str, tuple[Step, ...]]:
    """Name → steps from the source; all begin with the same fine-tuning, whose result in ONNX is the baseline."""
    adapt = Step("adapt", "FineTune", fine_tune=FineTune(TRAIN, training=Training(epochs=4, seed=seed)))
    alone = {
        BASELINE: (EXPORT,),
        "int8 dynamic": (EXPORT, INT8),
        "int8 static, FFN-down in fp32": (EXPORT, _quantize("Static", data=TRAIN, exclude=("FFNDown",))),
        "weights in 8 bits": (EXPORT, _quantize("WeightOnly")),
        "weights in 4 bits": (EXPORT, _quantize("WeightOnly", bits=4)),
        "fp16": (EXPORT, _quantize("Float16")),
        "vocabulary of the training text": (vocabulary(), EXPORT),
        "FFN 50 %, recovered": (ffn("0.5", seed), EXPORT),
        "3 of 6 layers, distilled": (distil((1, 3, 5), seed), EXPORT),
    }
    together = {
        HEADLINE: (distil((1, 3, 5), seed), EXPORT, INT8),
        f"{HEADLINE}, vocabulary trimmed": (distil((1, 3, 5), seed), vocabulary(), EXPORT, INT8),
        "2 layers, int8": (distil((3, 5), seed), EXPORT, INT8),
        "2 layers, int8, vocabulary trimmed": (distil((3, 5), seed), vocabulary(), EXPORT, INT8),
    }
    return {name: (adapt, *steps) for name, steps in (alone | together).items()}


def distil(layers: tuple[int, ...], seed: int) -> Step:
    """A student of these layers; many epochs, since each is cheap."""
    training = Training(epochs=12, learning_rate="0.0003", seed=seed)
    return Step("small", "Distill", distill=Distill(TRAIN, layers, soft="0.9", training=training))


def ffn(keep: str, seed: int) -> Step:
    """This share of the intermediate neurons, recovered by distillation."""
    recover = Recover(TRAIN, training=Training(epochs=4, learning_rate="0.0002", seed=seed))
    return Step("thin", "Prune", prune=Prune("FFN", keep, TRAIN, recover))


def vocabulary() -> Step:
    """The tokens of the training text, and what spells any other word."""
    return Step("words", "Prune", prune=Prune("Vocabulary", data=TRAIN))


def _quantize(method: str, **settings: object) -> Step:
    return Step("small-numbers", "Quantize", quantize=Quantize(method, **settings))  # type: ignore[arg-type]
