"""Triton model: a text in, the text that follows out. Graph, settings and tokenizer lie beside this file.

The graph runs in this process: through Triton's own backend every token would carry the whole cache of keys and values
across two processes, there and back. Texts are written side by side by threads, so that a short one need not wait for a
long one.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from arithmetic import BadText, decode
from generation import BadRequest, Codec, Decoder, Sampling, write

TOGETHER = 8
"""Requests that are written side by side; further ones wait."""


class TritonPythonModel:
    """One request = one text or several, each written by itself; a bad text is its request's error alone."""

    def initialize(self, args):
        here = Path(args["model_repository"]) / args["model_version"]
        self.settings = json.loads((here / "settings.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.settings["threads"]
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(str(here / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self.decoder = Decoder(session)
        self.codec = Codec(str(here / "tokenizer.json"), self.settings)
        write(self.decoder, self.codec, self.settings, "ready?", Sampling(2))
        self.writers = ThreadPoolExecutor(TOGETHER)

    def execute(self, requests):
        for request in requests:
            self.writers.submit(self._answer, request, request.get_response_sender())

    def finalize(self):
        self.writers.shutdown()

    def _answer(self, request, sender):
        sender.send(self._response(request), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _response(self, request):
        try:
            texts = [decode(value) for value in _values(request, "TEXT")[:, 0]]
            found = [self._written(request, text, row) for row, text in enumerate(texts)]
            width = max(len(written.ids) for written in found)
            tokens = np.full((len(found), width), -1, np.int64)
            for row, written in enumerate(found):
                tokens[row, : len(written.ids)] = written.ids
            words = {"GENERATED": [w.text for w in found], "FINISH_REASON": [w.reason for w in found]}
            tensors = [pb_utils.Tensor(name, _bytes(values)) for name, values in words.items()]
            return pb_utils.InferenceResponse([pb_utils.Tensor("TOKENS", tokens), *tensors])
        except (BadText, BadRequest) as error:
            return _refuse(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:
            return _refuse(f"generator: {type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)

    def _written(self, request, text, row):
        given = {
            name: _values(request, name) for name in ("MAX_TOKENS", "TEMPERATURE", "TOP_P", "SEED", "STOP", "CHAT")
        }
        wanted = {name.lower(): values[row] for name, values in given.items() if values is not None}
        stop = tuple(decode(value) for value in wanted.pop("stop", ()))
        sampling = Sampling(stop=stop, **{name: values[0].item() for name, values in wanted.items()})
        return write(self.decoder, self.codec, self.settings, text, sampling, lambda: not request.is_cancelled())


def _values(request, name):
    """An input of shape [texts, values]; None where it was left out."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _bytes(texts):
    return np.array([[text.encode()] for text in texts], dtype=object)


def _refuse(message, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
