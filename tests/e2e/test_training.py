"""Training in more than one process, and a recipe that the operator finds, in the cluster."""

from __future__ import annotations

import json

import pytest
from demo import clients, stage
from tests.e2e import kit

PLACES, THINGS = ("peru", "france", "kenya", "japan"), ("fish", "novel", "engine", "color")
ROWS = 800
PARTS = [{"name": "train", "percent": 60}, {"name": "validation", "percent": 20}, {"name": "test", "percent": 20}]
TRAINING = {"epochs": 6, "learningRate": "0.003", "batchSize": 16, "maxLength": 16}
TAG = {"name": "tag", "type": "FineTune", "fineTune": {"data": "words/train", "training": TRAINING}}
EXPORT = {"name": "graph", "type": "Export"}
JOBS = {"resources": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "3Gi"}}}
TRAINED_S = 600


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[kit.Obj]:
    """Tagged words in the store: which are places is plain from the word itself. The datasets of a spec."""
    folder = tmp_path_factory.mktemp("words")
    rows = [[(PLACES[n % 4], "place"), (THINGS[n // 4 % 4], "thing"), (f"number{n}", "thing")] for n in range(ROWS)]
    rows = [row[n % 3 :] + row[: n % 3] for n, row in enumerate(rows)]
    text = "\n".join(json.dumps({"tokens": [w for w, _ in row], "tags": [t for _, t in row]}) for row in rows)
    (folder / "rows.jsonl").write_text(text)
    stage.upload(folder, f"{kit.ROOT}/words")
    return [{"name": "words", "s3": stage.s3(f"{kit.ROOT}/words/rows.jsonl"), "split": {"seed": 0, "parts": PARTS}}]


@pytest.mark.timeout(900)
async def test_two_processes_train_and_the_search_completes_the_recipe(house: kit.House, words: list[kit.Obj]) -> None:
    """Two pods of one Job find each other and train a tagger; `auto` quantizes it; it answers by words."""
    gates = [
        {"name": "kept", "metric": "Accuracy", "data": "words/test", "maxDrop": "0.1"},
        {"name": "size", "metric": "SizeRatio", "max": "0.9"},
    ]
    auto = {"objective": "Size", "validation": "words/validation", "trials": 3, "timeout": "5m"}
    optimization = {
        "steps": [TAG, EXPORT],
        "auto": auto,
        "gates": gates,
        "processes": 2,
        "parallelism": "FSDP",
        "podTemplate": JOBS,
    }
    house.apply(house.model("tagger", "a", task="TokenClassification", data=words, optimization=optimization))
    om = await kit.off_loop(house.wait_ready, "tagger", TRAINED_S)

    (job,) = house.kubectl.list("jobs", house.namespace)
    pods = house.pods("tagger", "optimize")
    assert job["spec"]["completionMode"] == "Indexed"
    assert sorted(p["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] for p in pods) == ["0", "1"]
    logs = [house.kubectl("logs", p["metadata"]["name"], "-n", house.namespace) for p in pods]
    assert all(", 1 CPUs" in log for log in logs), "each computes with as many threads as its limit allows"
    assert {s["name"]: s["state"] for s in om["status"]["steps"]}["tag"] == "Done"
    assert {g["name"]: g["verdict"] for g in om["status"]["gates"]} == {"kept": "Pass", "size": "Pass"}, om["status"][
        "search"
    ]
    assert om["status"]["search"]["winner"]
    assert float(om["status"]["figures"]["accuracy"]) > 0.95

    async with clients.Http(house.address("tagger"), "tagger") as client:
        answer = await client.outputs("kenya novel number901")
    assert answer["LABEL"] == ["place", "thing", "thing"]
