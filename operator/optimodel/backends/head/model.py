"""Triton model: the graph's output in, the answer of the task out."""

import json
from pathlib import Path

import triton_python_backend_utils as pb_utils
from arithmetic import answer, outputs


class TritonPythonModel:
    """Answers as the settings beside this file say."""

    def initialize(self, args):
        here = Path(args["model_repository"]) / args["model_version"]
        self.settings = json.loads((here / "settings.json").read_text())
        self.inputs = [tensor["name"] for tensor in json.loads(args["model_config"])["input"]]

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            tensors = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            found = outputs(self.settings, answer(self.settings, tensors))
            return pb_utils.InferenceResponse([pb_utils.Tensor(name, values) for name, values in found.items()])
        except Exception as error:
            message = f"head: {type(error).__name__}: {error}"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INTERNAL))
