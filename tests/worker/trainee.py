"""`python -m tests.worker.trainee DDP|FSDP RANK SIZE PORT FOLDER DIE LABELS`: one process of a training that needs torch alone. At the
step DIE, if there is one, it ends as a kill would end it. Prints what it learnt, or the reason of its failure."""

from __future__ import annotations

import copy
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from optimodel.api import contract
from optimodel.api.steps import Step, Training
from optimodel.worker import peers
from optimodel.worker.errors import Failure
from optimodel.worker.steps import Context
from optimodel.worker.training import loop, parallel
from optimodel.worker.training.batches import Batch, Texts

TEXTS = Texts(
    [[n % 50, n * 7 % 50, n * 3 % 50, n % 5] for n in range(29)],
    0,
    [[n % 3] * (1 + n % 4) for n in range(29)],
    [list(range(1 + n % 4)) for n in range(29)],
)
"""Each row has one to four answers."""
TRAINING = Training(epochs=6, batch_size=4, learning_rate="0.01")
"""Batches of four rows, and at the end of each epoch one of a single row."""


class Model(torch.nn.Module):
    """Blocks of odd sizes, a table that two names share, one that does not learn, and a layer that no row passes."""

    def __init__(self, labels):
        super().__init__()
        self.words, self.places = torch.nn.Embedding(50, 7), torch.nn.Embedding(4, 7).requires_grad_(False)
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(7, 7) for _ in range(2))
        self.head, self.unused = torch.nn.Linear(7, labels), torch.nn.Linear(2, 2)
        self.same = torch.nn.Linear(7, 50, bias=False)
        self.same.weight = self.words.weight

    def forward(self, ids):
        states = self.words(ids) + self.places.weight
        for block in self.blocks:
            states = states + torch.tanh(block(states))
        return self.head(states.mean(1)) + 0.1 * self.same(states.mean(1))[:, :1]


def loss(model: Model, batch: Batch) -> Any:
    """The mean over all answers."""
    found = model(batch.inputs["input_ids"])[:, None].expand(-1, batch.mask.shape[1], -1)
    return torch.nn.functional.cross_entropy(found[batch.answering], batch.labels)


def learn(found: peers.Peers, folder: Path, die: int, labels: int) -> dict[str, Any]:
    """Train a model of a few hundred weights; its weights at the end, and the most that this process held while it trained."""
    torch.manual_seed(1)
    model, held = Model(labels), [0]

    def report(percent, word):
        held.append(sum(parallel.local(value).numel() for value in model.parameters()))
        if die and f" step {die} " in word:
            os._exit(137)

    context = Context("TextClassification", 1, folder, report, list, folder / f"checkpoint-{found.rank}", peers=found)
    loop.train(model, TEXTS, partial(loss, model), TRAINING, context, checkpoint_steps=10)
    whole = copy.deepcopy(model)  # as one that was never in parts
    return {
        "weights": torch.cat([value.detach().flatten() for value in whole.parameters()]).tolist(),
        "held": max(held),
    }


def main(rank: int, size: int, port: str, folder: Path, sharded: bool, die: int, labels: int) -> None:
    torch.set_num_threads(1)
    place = {contract.INDEX_ENV: str(rank), contract.RENDEZVOUS_ENV: f"127.0.0.1:{port}"}
    found = peers.join(size, place, sharded=sharded)
    try:
        if rank == 0:
            found.call(peers.Call(Step("adapt", "FineTune"), "sha256:00", True))
            print(json.dumps(learn(found, folder, die, labels)))
            found.end()
        for _ in found.calls() if rank else ():
            learn(found, folder, die, labels)
    except Failure as failure:
        print(failure.reason)


if __name__ == "__main__":
    main(
        int(sys.argv[2]),
        int(sys.argv[3]),
        sys.argv[4],
        Path(sys.argv[5]),
        sys.argv[1] == "FSDP",
        *map(int, sys.argv[6:8]),
    )
    sys.stdout.flush()
    os._exit(0)
