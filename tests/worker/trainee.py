"""`python -m tests.worker.trainee RANK SIZE PORT FOLDER [DIE]`: one process of a training that needs torch alone. With DIE it ends
as a kill would end it at that step. Prints what it learnt, or the reason of its failure."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from optimodel.api import contract
from optimodel.api.steps import Step, Training
from optimodel.worker import peers
from optimodel.worker.errors import Failure
from optimodel.worker.steps import Context
from optimodel.worker.training import loop
from optimodel.worker.training.batches import Texts

TEXTS = Texts([[n % 50, n * 7 % 50, n * 3 % 50, n % 5] for n in range(29)], 0, [[n % 3] for n in range(29)])
TRAINING = Training(epochs=6, batch_size=4, learning_rate="0.01")
"""Batches of four rows, and at the end of each epoch one of a single row."""


def learn(found: peers.Peers, folder: Path, die: int) -> list[float]:
    """Train a model of a few hundred weights; the weights."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Embedding(50, 8), torch.nn.Flatten(), torch.nn.Linear(32, 3))
    model.register_module("unused", torch.nn.Linear(2, 2))

    def loss(batch):
        return torch.nn.functional.cross_entropy(model[2](model[1](model[0](batch.inputs["input_ids"]))), batch.labels)

    def report(percent, word):
        if die and f" step {die} " in word:
            os._exit(137)

    context = Context("TextClassification", 1, folder, report, list, folder / f"checkpoint-{found.rank}", peers=found)
    loop.train(model, TEXTS, loss, TRAINING, context, checkpoint_steps=10)
    return torch.cat([value.detach().flatten() for value in model.parameters()]).tolist()


def main(rank: int, size: int, port: str, folder: Path, die: int = 0) -> None:
    torch.set_num_threads(1)
    found = peers.join(size, {contract.INDEX_ENV: str(rank), contract.RENDEZVOUS_ENV: f"127.0.0.1:{port}"})
    try:
        if rank == 0:
            found.call(peers.Call(Step("adapt", "FineTune"), "sha256:00", True))
            print(json.dumps(learn(found, folder, die)))
            found.end()
        for _ in found.calls() if rank else ():
            learn(found, folder, die)
    except Failure as failure:
        print(failure.reason)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), *map(int, sys.argv[5:]))
    sys.stdout.flush()
    os._exit(0)
