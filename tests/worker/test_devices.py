"""Trainings on a GPU, where there is none: fake tensors know their device and shape, and have no numbers. Two that would meet on
different devices are found, on the way forward and in the optimizer; the way back would want the device itself."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
import transformers
from tests.worker import tiny
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from optimodel.api.steps import QAT, Training
from optimodel.worker.errors import Failure
from optimodel.worker.steps import Context, finetune
from optimodel.worker.steps.prune import masks
from optimodel.worker.training import adapters, devices, families, folders, freezing, loop, losses, prompts
from optimodel.worker.training.batches import Texts
from optimodel.worker.training.rounding import rounding
from optimodel.worker.training.teacher import Teacher

GPU = torch.device("cuda", 0)
TRAINING = Training(epochs=1, batch_size=2)
CONFIG = transformers.BertConfig(**tiny.BASE, **tiny.BIG, num_labels=3)
TEXTS = Texts([[5, 6, 7, n] for n in range(6)], 0, [[n % 3] for n in range(6)])
WORDS = Texts([[5, 6, 7, n] for n in range(6)], 0, [[n % 3, 1] for n in range(6)], [[1, 2]] * 6)


class Device(FakeTensorMode):
    """Fake tensors, and the few places that want numbers of them."""

    def __init__(self, monkeypatch):
        super().__init__(shape_env=ShapeEnv())
        monkeypatch.setattr(devices, "best", lambda: GPU)
        monkeypatch.setattr(torch.nn.Module, "to", lambda module, device=None, dtype=None: self._move(module, device))
        monkeypatch.setattr(torch.Tensor, "item", lambda value, known=torch.Tensor.item: self._item(value, known))
        monkeypatch.setattr(torch.Tensor, "backward", lambda value: self._backward())
        monkeypatch.setattr(FakeTensor, "tolist", lambda rows: [0, 1])
        monkeypatch.setattr(torch.nn.functional, "mse_loss", lambda one, other: one.mean() + other.mean())
        monkeypatch.setattr(loop, "_fingerprint", lambda *_: "")
        monkeypatch.setattr(loop, "shuffled", lambda *_: [[0, 1], [2, 3], [4, 5]])
        monkeypatch.setattr(loop.Memory, "save", lambda *_: None)
        self.losses, self.parameters = [], []

    def _item(self, value, known):
        if value.device == GPU:
            self.losses.append(value.device)
        return 1.0 if value.is_floating_point() else known(value)

    def _move(self, module, device):
        self.parameters = [*module.parameters()]
        for value in (*self.parameters, *module.buffers()):
            value.fake_device = GPU if torch.device(device or "cpu").type == "cuda" else torch.device("cpu")
        return module

    def _backward(self):
        for value in self.parameters:
            value.grad = torch.zeros_like(value) if value.requires_grad else None


@pytest.fixture
def gpu(monkeypatch):
    with Device(monkeypatch) as mode:
        yield mode


def subject(kind=transformers.BertForSequenceClassification, task="TextClassification"):
    described = {"pooling": "mean", "normalize": True}
    return folders.Subject(task, None, kind(CONFIG).train(), None, described)


def train(gpu, mine, texts, loss, tmp_path, after=lambda: None):
    context = Context(mine.task, 1, tmp_path, lambda *_: None, list, tmp_path / "checkpoint")
    loop.train(mine.model, texts, loss, TRAINING, context, after=after)
    assert gpu.losses == [GPU] * 3, "it was computed there"
    assert {value.device.type for value in mine.model.parameters()} == {"cpu"}, "and is saved from here"


@pytest.mark.parametrize("way", ["Full", "LoRA", "PrefixTuning", "PromptTuning", "words", "rounded"])
def test_fine_tuning(way, gpu, tmp_path):
    words = way == "words"
    mine = subject(*((transformers.BertForTokenClassification, "TokenClassification") if words else ()))
    if way.endswith("Tuning"):
        mine = mine.with_model(prompts.attach(mine.model, way, 3))
    inside = {
        "LoRA": partial(adapters.adapters, mine.model, 4, 8),
        "rounded": partial(rounding, mine.model, QAT("d", "Dynamic")),
    }
    block = inside.get(way, nullcontext)()
    block.__enter__()  # what merges the adapters at the end wants numbers
    train(gpu, mine, WORDS if words else TEXTS, losses.hard(mine), tmp_path)


@pytest.mark.parametrize("remembered", [True, False])
@pytest.mark.parametrize("task", ["TextClassification", "TextEmbedding"])
def test_distillation_and_recovery(task, remembered, gpu, tmp_path):
    kind = transformers.BertModel if task == "TextEmbedding" else transformers.BertForSequenceClassification
    before, mine = subject(kind, task), subject(kind, task)
    freezing.embeddings(mine.model)
    teacher = Teacher(before, (0, 1))
    if remembered:
        teacher._answers = [torch.ones(1, 32 if task == "TextEmbedding" else 3)] * 6
        teacher._states = [[torch.ones(4, 32)] * 2] * 6
    held = [torch.zeros(linear.weight.shape, dtype=torch.bool) for linear in families.linears(mine.model)]
    loss = losses.distillation(mine, teacher, 2.0, 1.0, 1.0)
    train(gpu, mine, TEXTS, loss, tmp_path, after=lambda: masks.hold(mine.model, held))


def test_a_head_on_what_a_body_said_once(gpu, tmp_path):
    mine = subject()
    freezing.body(mine.model)
    train(gpu, mine, TEXTS, finetune._Features(torch.zeros(6, 32)).loss(mine), tmp_path)


def test_what_stays_behind_is_found(gpu, tmp_path, monkeypatch):
    mine = subject()
    monkeypatch.setattr(devices, "on_best", lambda model: nullcontext())
    with pytest.raises(RuntimeError, match=r"[Dd]evice"):
        train(gpu, mine, TEXTS, losses.hard(mine), tmp_path)


def test_a_gpu_that_is_too_small_is_told_with_the_way_out(gpu, tmp_path):
    def full(batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.raises(Failure, match=r"2.00 GiB") as told:
        train(gpu, subject(), TEXTS, full, tmp_path)
    assert told.value.reason == "DeviceOutOfMemory" and "batchSize" in told.value.message
