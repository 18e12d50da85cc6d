"""A worker that is killed twenty times goes on each time, loses one checkpoint's work at most, and makes the same bytes."""

from __future__ import annotations

import random
import re
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import obstore
import pytest
from tests.seaweed import Seaweed, free_port, seaweed
from tests.worker import forks, jobs, tiny

from optimodel.api.contract import ExitCode, JobInput, Result
from optimodel.api.sources import Artifacts, Dataset, Source
from optimodel.api.spec import Shape
from optimodel.api.steps import Distill, FineTune, Prune, Recover, Step, Training

KILLS, SEED = 20, 11
MOMENTS, LATE = 1 / 10, 1 / 15
"""A kill comes so many moments after the worker's start on average, and at most so much later, in parts of an undisturbed
run: before, within and between the steps, in many short works (a training step, an upload) and in few long ones (a trace)."""
TRAINING = Training(epochs=4, batch_size=8, learning_rate="0.001", max_length=16)
STEPS = (
    Step("adapt", "FineTune", fine_tune=FineTune("train", training=TRAINING)),
    Step("small", "Distill", distill=Distill("train", training=TRAINING)),
    Step("thin", "Prune", prune=Prune("FFN", keep="0.5", data="train", recover=Recover("train", training=TRAINING))),
    Step("graph", "Export"),
    Step("int8", "Quantize"),
)
ROLES = ("source", "store", "data-train")


@dataclass
class World:
    """A store on a real server, and who starts workers."""

    folder: Path
    s3: Seaweed
    workers: forks.Server

    def job(self, store: str) -> JobInput:
        return JobInput(
            model="m",
            namespace="team-a",
            revision="r1",
            evaluation="e1",
            task="TextClassification",
            source=Source(s3=self.s3.s3("s3://models/tiny")),
            artifacts=Artifacts(s3=self.s3.s3(f"s3://store/{store}")),
            steps=STEPS,
            data=(Dataset("train", s3=self.s3.s3("s3://data/sets/rows.jsonl")),),
            shapes=(Shape(1, 16),),
        )

    def run(self, store: str, after: int = 0, late: float = 0.0) -> tuple[int, str]:
        """A pod: exit status and log. Its disk goes with it."""
        work, log = self.folder / "work", self.folder / "log"
        work.mkdir()
        log.unlink(missing_ok=True)
        environ = jobs.environment(self.job(store), work, free_port())
        for role in ROLES:
            environ |= self.s3.environ(role)
        status = self.workers.run(forks.Order(str(log), environ, after=after, late=late))
        shutil.rmtree(work, ignore_errors=True)
        return status, log.read_text()

    def holds(self, store: str) -> dict[str, int]:
        """Keys and sizes of what lies there, but for reports: they tell latencies."""
        client = self.s3.client("store")
        found = {meta["path"]: meta["size"] for batch in obstore.list(client, prefix=f"{store}/") for meta in batch}
        return {name.removeprefix(store): size for name, size in found.items() if "/reports/" not in name}

    def digest(self, store: str) -> str:
        """Of the artifact that the report names."""
        report = obstore.get(self.s3.client("store"), f"{store}/team-a/reports/r1-e1.json").bytes()
        found = msgspec.json.decode(report, type=Published).result.artifact
        assert found is not None
        return found.digest


class Published(msgspec.Struct):
    """What this test reads of a report."""

    result: Result


@pytest.fixture(scope="module")
def world(tmp_path_factory, workers):
    folder = tmp_path_factory.mktemp("kills")
    chance, rows = random.Random(3), []
    for number in range(80):
        words = [f"word{chance.randrange(200)}" for _ in range(chance.randint(3, 9))]
        rows.append(("place", " ".join(["capital", *words])) if number % 2 else ("book", " ".join(["novel", *words])))
    (folder / "sets").mkdir()
    jobs.write_rows(folder / "sets" / "rows.jsonl", rows)
    with seaweed(folder, ("models", "data", "store")) as server:
        server.upload("models", "tiny", tiny.save("bert", folder / "tiny", ["place", "book"]))
        server.upload("data", "sets", folder / "sets")
        yield World(folder, server, workers)


@dataclass
class Story:
    """What the logs of one store's workers tell together."""

    reached: dict[str, int] = field(default_factory=dict)
    """The last training step of each step of the recipe that any worker has told of."""
    lost: list[int] = field(default_factory=list)
    """Training steps done again, for each training that was begun again."""

    def add(self, log: str) -> None:
        """One more worker's log."""
        for name in dict.fromkeys(re.findall(r"^(\w+): loss .* at step", log, re.MULTILINE)):
            done = [int(n) for n in re.findall(rf"^{name}: loss .* at step (\d+) of", log, re.MULTILINE)]
            if name in self.reached:
                self.lost.append(self.reached[name] - (done[0] - 1))
            self.reached[name] = done[-1]


def met(log: str) -> str:
    """What a killed worker was at."""
    started = re.findall(r" (\w+): started", log)
    ended = re.findall(r" (\w+): (?:Done|Cached)", log)
    return next((name for name in reversed(started) if name not in ended), "between")


@pytest.mark.timeout(600)
def test_twenty_kills_cost_no_result_and_little_work(world):
    begun = time.monotonic()
    status, log = world.run("calm")
    alone = time.monotonic() - begun
    assert status == ExitCode.OK, log
    moments = int(re.findall(r"\(moment (\d+)\)", log)[-1])
    chance = random.Random(SEED)
    kills, ends, resumed, stories = [], 0, 0, [Story()]
    while len(kills) < KILLS or status != ExitCode.OK:
        after = 1 + int(chance.expovariate(1 / (MOMENTS * moments))) if len(kills) < KILLS else 0
        store = f"killed-{ends}"
        status, log = world.run(store, after, chance.uniform(0, LATE * alone))
        stories[-1].add(log)
        resumed += log.count("goes on from a checkpoint")
        if status != ExitCode.OK:
            assert status == -signal.SIGKILL, log
            kills.append(met(log))
            continue
        assert world.holds(store) == world.holds("calm"), "nothing is missing, and nothing was left behind"
        assert world.digest(store) == world.digest("calm")
        ends += 1
        stories.append(Story())
    lost = [steps for story in stories for steps in story.lost]
    print(f"{moments} moments in {alone:.0f} s undisturbed; {ends} ends; killed at {kills}")
    print(f"on from a checkpoint {resumed} times; training steps done again: {lost}")
    assert resumed > 0 and len(set(kills)) >= 4
    assert max(lost) <= forks.INTERVAL
