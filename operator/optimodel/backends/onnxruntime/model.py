"""Triton backend for development that goes by the name of the native one: it runs `<version>/model.onnx` of the same
repository, with the same config, where the native `onnxruntime` backend cannot be had."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Runs requests of equal shape as one batch, and gives each its own rows back."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        if args["model_instance_kind"] == "GPU":
            raise pb_utils.TritonModelException(
                "this development backend computes on the CPU alone. Name a runtime with Triton's own onnxruntime backend"
            )
        path = (
            Path(args["model_repository"])
            / args["model_version"]
            / (config.get("default_model_filename") or "model.onnx")
        )
        options = onnxruntime.SessionOptions()
        threads = config.get("parameters", {}).get("intra_op_thread_count", {}).get("string_value", "0")
        options.intra_op_num_threads = int(threads)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]

    def execute(self, requests):
        responses = [None] * len(requests)
        groups = defaultdict(list)
        for index, request in enumerate(requests):
            try:
                feed = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
                groups[tuple(array.shape[1:] for array in feed.values())].append((index, feed))
            except Exception as error:
                responses[index] = _refuse(error)
        for members in groups.values():
            self._run(members, responses)
        return responses

    def _run(self, members, responses):
        """Answer the requests of one shape together; when that fails, one by one, so that only the bad one fails."""
        try:
            feeds = [feed for _, feed in members]
            batch = {name: np.concatenate([feed[name] for feed in feeds]) for name in self.inputs}
            results = self.session.run(self.outputs, batch)
            ends = np.cumsum([len(feed[self.inputs[0]]) for feed in feeds])[:-1]
            parts = [np.split(result, ends) for result in results]
            for position, (index, _) in enumerate(members):
                tensors = [
                    pb_utils.Tensor(name, np.ascontiguousarray(part[position]))
                    for name, part in zip(self.outputs, parts, strict=True)
                ]
                responses[index] = pb_utils.InferenceResponse(tensors)
        except Exception as error:
            if len(members) == 1:
                responses[members[0][0]] = _refuse(error)
                return
            for member in members:
                self._run([member], responses)


def _refuse(error):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"onnxruntime: {type(error).__name__}: {error}"))
