"""Triton model: images in, as the bytes of PNG or JPEG files, pixel values out. Settings lie beside this file."""

import json
from pathlib import Path

import triton_python_backend_utils as pb_utils
from pixels import BadImage, encode


class TritonPythonModel:
    """One request = one tensor of its images; a bad image is that request's error alone."""

    def initialize(self, args):
        here = Path(args["model_repository"]) / args["model_version"]
        self.settings = json.loads((here / "settings.json").read_text())

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            values = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()
            found = encode(list(values.reshape(-1)), self.settings["image"])
            return pb_utils.InferenceResponse([pb_utils.Tensor(self.settings["output"], found)])
        except BadImage as error:
            return _refuse(f"an image is refused: {error}", pb_utils.TritonError.INVALID_ARG)
        except Exception as error:
            return _refuse(f"processor: {type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)


def _refuse(message, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
