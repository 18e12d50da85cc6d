"""Triton model: texts in, padded token ids out. Settings and tokenizer lie beside this file."""

import json
import os
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from arithmetic import BadText, decode, encode, load_tokenizer


class TritonPythonModel:
    """One request = one padded tensor per output; a bad text is that request's error alone."""

    def initialize(self, args):
        here = Path(args["model_repository"]) / args["model_version"]
        self.settings = json.loads((here / "settings.json").read_text())
        self.tokenizer = load_tokenizer(str(here / "tokenizer.json"), self.settings["lengths"][-1])

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            values = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
            texts = [decode(value) for value in values.reshape(-1)]
            arrays = encode(
                self.tokenizer, texts, self.settings["outputs"], self.settings["lengths"], self.settings["padTokenId"]
            )
            tensors = [pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in arrays.items()]
            return pb_utils.InferenceResponse(tensors)
        except BadText as error:
            return _refuse(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:
            return _refuse(f"tokenizer: {type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)


def _refuse(message, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
