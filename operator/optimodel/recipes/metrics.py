"""What gates measure, by what it is measured on."""

from __future__ import annotations

LABEL_METRICS = frozenset({"Accuracy", "MacroF1"})
"""Metrics that need labels, and for which a drop against the baseline has a meaning: the cosines are relative to it already."""

COSINES = frozenset({"CosineMean", "CosineP5", "CosineMin"})
"""Metrics of answers that are vectors or scores."""

TEXT_METRICS = frozenset({"Perplexity", "PerplexityRatio", "NextTokenAgreement"})
"""Metrics of models that write text."""

DATA_METRICS = COSINES | LABEL_METRICS | TEXT_METRICS
"""Metrics that are measured on held-out data; the others read none."""

HIGHER_IS_BETTER = (DATA_METRICS | {"BatchInvariance"}) - {"Perplexity", "PerplexityRatio"}
