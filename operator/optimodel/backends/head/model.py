"""Triton model: the graph's output in, the answer out: sentence vectors, or scores and the best label."""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from arithmetic import embed, softmax


class TritonPythonModel:
    """Pools and normalises token vectors, or turns logits into scores, as the settings beside this file say."""

    def initialize(self, args):
        here = Path(args["model_repository"]) / args["model_version"]
        self.settings = json.loads((here / "settings.json").read_text())
        self.labels = np.array([label.encode() for label in self.settings["labels"]], dtype=object)

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            compute = self._scores if self.settings["task"] == "TextClassification" else self._embedding
            return pb_utils.InferenceResponse(compute(request))
        except Exception as error:
            message = f"head: {type(error).__name__}: {error}"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INTERNAL))

    def _embedding(self, request):
        vectors = embed(
            _array(request, "last_hidden_state"),
            _array(request, "attention_mask"),
            self.settings["pooling"],
            self.settings["normalize"],
        )
        return [pb_utils.Tensor("EMBEDDING", vectors)]

    def _scores(self, request):
        scores = softmax(_array(request, "logits"))
        best = self.labels[scores.argmax(axis=1)].reshape(-1, 1)
        return [pb_utils.Tensor("SCORES", scores), pb_utils.Tensor("LABEL", best)]


def _array(request, name):
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()
