"""The checkpoint of a training, of one process or of several."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

from . import devices, parallel

if TYPE_CHECKING:
    from ..steps.technique import Context


class Memory:
    """Weights, optimizer, schedule, torch's generators and the losses so far: a file with a part for each process that has something
    of its own to remember. It appears whole or not at all, with the first process, and all go back to it."""

    def __init__(
        self, context: Context, parameters: dict[str, Any], optimizer: Any, scheduler: Any, fingerprint: str
    ) -> None:
        self.peers, self.due, self.keep = context.peers, context.due, context.keep
        of = f"-of-{self.peers.size}" if self.peers.size > 1 else ""
        sharded = "-sharded" if self.peers.sharded else ""
        self.path = context.checkpoint / f"training-{fingerprint}{of}{sharded}.zip"
        self.parameters, self.optimizer, self.scheduler = parameters, optimizer, scheduler

    def save(self, losses: list[float]) -> None:
        """Replace the last checkpoint, and keep it, if it is time to: nobody comes back to one that is not kept."""
        import torch

        if not self.peers.first(b"save" if self.due(self._bytes()) else b""):
            return
        if self.peers.rank:
            with self.peers.outlet() as stream:
                torch.save(self._state(losses), stream)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        with ZipFile(partial, "w") as parts:
            with parts.open("0", "w", force_zip64=True) as part:
                torch.save(self._state(losses), part)
            for rank in range(1, self.peers.size):
                with parts.open(str(rank), "w", force_zip64=True) as part:
                    self.peers.inlet(rank, part)
        os.replace(partial, self.path)
        self.keep(self.path)

    def _bytes(self) -> int:
        """About what a checkpoint takes: the weights, and AdamW's two averages of each."""
        return 3 * sum(int(value.nbytes) for value in self.parameters.values())

    def _state(self, losses: list[float]) -> dict[str, Any]:
        """What this process remembers. Of processes that hold the same weights, the first does so for all."""
        import torch

        state: dict[str, Any] = {"generator": torch.get_rng_state(), "device": devices.generator(), "losses": losses}
        if self.peers.rank and not self.peers.sharded:
            return state
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = {
            place: {name: parallel.local(value) for name, value in values.items()}
            for place, values in optimizer["state"].items()
        }
        return state | {
            "parameters": {name: parallel.local(value.detach()) for name, value in self.parameters.items()},
            "optimizer": optimizer,
            "scheduler": self.scheduler.state_dict(),
        }

    def restore(self) -> list[float]:
        """Go back to the last checkpoint; its losses, or none."""
        import torch

        self.peers.share(self.path)
        if not self.path.exists():
            return []
        mine = self._part(self.peers.rank)
        state = mine if "parameters" in mine else self._part(0)
        with torch.no_grad():
            for name, value in self.parameters.items():
                parallel.local(value).copy_(state["parameters"][name])
        self.optimizer.load_state_dict(state["optimizer"] | {"state": self._whole(state["optimizer"]["state"])})
        self.scheduler.load_state_dict(state["scheduler"])
        torch.set_rng_state(mine["generator"])
        devices.set_generator(mine["device"])
        return list(mine["losses"])

    def _part(self, rank: int) -> dict[str, Any]:
        """What the process of this rank remembered."""
        import torch

        with ZipFile(self.path) as parts, TemporaryDirectory(dir=self.path.parent) as folder:
            found: dict[str, Any] = torch.load(Path(parts.extract(str(rank), folder)), "cpu", weights_only=True)
            return found

    def _whole(self, state: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        """The optimizer's numbers of each parameter, cut as that is."""
        order = [value for group in self.optimizer.param_groups for value in group["params"]]
        return {
            place: {name: parallel.like(order[place], part) for name, part in values.items()}
            for place, values in state.items()
        }
