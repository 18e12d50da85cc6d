"""The hashes change when the answers may, and never otherwise. The golden values below never change."""

from __future__ import annotations

import msgspec

from optimodel.api.search import Auto
from optimodel.api.sources import PVC, S3, Artifacts, Dataset, HuggingFace, LocalRef, Part, Source, Split
from optimodel.api.spec import Batching, Gate, Optimization, Shape, Target, TritonRuntimeSpec
from optimodel.api.steps import Distill, Quantize, Step
from optimodel.recipes import identity

STEPS = (Step("graph", "Export"), Step("int8", "Quantize"))
HUB = Source(hugging_face=HuggingFace("org/model", "3f2c9ab"))
RUNTIME = TritonRuntimeSpec("registry.example/triton:1")


def revision(task="TextEmbedding", source=HUB, steps=STEPS, batching=None, runtime=RUNTIME, data=()):
    return identity.revision_hash(task, source, steps, batching or Batching(), runtime, data)


def test_golden_hashes_stay():
    assert revision() == "0a517e2b"
    bucket = Source(s3=S3("s3://models/minilm/"), refresh="2")
    changed = Batching(max_batch_size=32, length_buckets=(16, 64))
    assert revision("TextClassification", bucket, STEPS[:1], changed) == "69df5292"
    gates = (Gate("cosine", "CosineMean", min="0.985"), Gate("size", "SizeRatio", max="0.27"))
    data = (Dataset("trec", pvc=PVC("data", "trec.jsonl")),)
    evaluation = identity.evaluation_hash(gates, data, (Shape(), Shape(8, 128)))
    assert evaluation == "fcbeef9d"
    assert identity.job_hash(evaluation, source=HUB, artifacts=Artifacts(s3=S3("s3://store")), data=data) == "6387d"


def test_defaults_written_out_change_nothing():
    explicit = msgspec.json.decode(
        b'{"name":"int8","type":"Quantize","quantize":{"bits":8,"perChannel":true}}', type=Step
    )
    batching = msgspec.json.decode(b'{"maxBatchSize":8,"lengthBuckets":[16,32,64,128,256]}', type=Batching)
    assert revision(steps=(STEPS[0], explicit), batching=batching) == revision()
    assert revision(source=Source(s3=S3("s3://a/b/"))) == revision(source=Source(s3=S3("s3://a/b")))


def test_names_secrets_and_placement_are_not_answers():
    secret = Source(hugging_face=HuggingFace("org/model", "3f2c9ab", endpoint="http://hub", secret_ref=LocalRef("hf")))
    runtime = TritonRuntimeSpec(
        "registry.example/triton:1", resources={"limits": {"cpu": "2"}}, node_selector={"a": "b"}
    )
    assert revision(source=secret, runtime=runtime, steps=(Step("a", "Export"), Step("b", "Quantize"))) == revision()


def test_what_changes_the_answers_changes_the_hash():
    others = [
        revision("TextClassification"),
        revision(source=Source(hugging_face=HuggingFace("org/model", "main"))),
        revision(source=Source(hugging_face=HUB.hugging_face, refresh="1")),
        revision(steps=STEPS[:1]),
        revision(steps=(STEPS[0], Step("int8", "Quantize", quantize=Quantize(per_channel=False)))),
        revision(batching=Batching(max_batch_size=1)),
        revision(runtime=TritonRuntimeSpec("registry.example/triton:2")),
    ]
    assert len({revision(), *others}) == len(others) + 1
    assert all(len(h) == 8 for h in others)


def test_data_that_a_step_reads_is_part_of_what_is_made_and_no_other():
    steps = (Step("small", "Distill", distill=Distill("d/train")), *STEPS)
    split = Split((Part("train", 60), Part("test", 40)))
    d = Dataset("d", s3=S3("s3://data/d.jsonl", secret_ref=LocalRef("one")), split=split)
    other = Dataset("eval", s3=S3("s3://data/eval.jsonl"))
    same = (d, msgspec.structs.replace(d, s3=S3("s3://data/d.jsonl")))
    assert len({revision(steps=steps, data=data) for data in ((same[0],), (same[1],), (other, d))}) == 1
    assert revision(data=(d, other)) == revision()
    changed = [
        msgspec.structs.replace(d, s3=S3("s3://data/e.jsonl")),
        msgspec.structs.replace(d, split=Split(split.parts, seed=1)),
        msgspec.structs.replace(d, label_field="kind"),
    ]
    assert len({revision(steps=steps, data=(found,)) for found in (d, *changed)}) == 4
    assert len({identity.evaluation_hash((), (found,), ()) for found in (d, *changed)}) == 4
    assert revision(steps=steps, data=(d,)) == "dc8e7002"


def test_a_job_depends_on_secrets_and_pod_template_but_not_on_the_deletion_policy():
    def job(**changes):
        wanted = {"source": HUB, "artifacts": Artifacts(s3=S3("s3://store")), "timeout": "2h"} | changes
        return identity.job_hash("e", **wanted)

    store = S3("s3://store", secret_ref=LocalRef("other"))
    assert job() == job(artifacts=Artifacts(s3=S3("s3://store"), deletion_policy="Delete"), pod_template={})
    changed = {job(), job(artifacts=Artifacts(s3=store)), job(timeout="1h"), job(pod_template={"spec": {"a": 1}})}
    changed |= {job(processes=2), job(processes=2, parallelism="FSDP"), job(queue="team-a")}
    assert len(changed) == 7
    assert job(processes=1, queue=None) == job()
    assert all(len(h) == 5 for h in changed)


def test_the_accelerator_is_part_of_what_is_made_and_the_cpu_is_what_was_always_meant():
    def on(accelerator):
        return identity.revision_hash("TextEmbedding", HUB, STEPS, Batching(), RUNTIME, accelerator=accelerator)

    assert on(None) == identity.revision_hash("TextEmbedding", HUB, STEPS, Batching(), RUNTIME)
    assert len({on(None), on("CUDA"), on("TensorRT")}) == 3
    placed = msgspec.structs.replace(RUNTIME, accelerators=("CUDA",), accelerator_resource="nvidia.com/mig-1g.10gb")
    assert identity.revision_hash("TextEmbedding", HUB, STEPS, Batching(), placed) == on(None), "a place, no answer"


def test_a_search_is_part_of_what_is_made_with_its_floor_but_not_where_the_winner_is_judged():
    graph, d = STEPS[:1], Dataset("d", s3=S3("s3://data/d.jsonl"))
    plain, shape = Auto("d"), Shape()
    floor = Gate("loss", "CosineMean", data="d", min="0.98")

    def searched(auto=plain, gates=(floor,), shapes=(shape,), data=(d,)):
        asks = Optimization(auto=auto, gates=gates, target=Target(shapes=shapes))
        return identity.revision_hash("TextEmbedding", HUB, graph, Batching(), RUNTIME, data, asks)

    renamed = msgspec.structs.replace(floor, name="other", data="e")
    assert searched() == searched(gates=(renamed,)) == searched(Auto("d", objective="Latency", trials=16))
    others = [
        searched(Auto("d", "Size")),
        searched(Auto("d", seed=1)),
        searched(gates=(msgspec.structs.replace(floor, min="0.97"),)),
        searched(shapes=(Shape(8, 32),)),
        searched(data=(Dataset("d", s3=S3("s3://data/e.jsonl")),)),
        searched(auto=None),
    ]
    assert len({searched(), *others}) == len(others) + 1
    assert searched(auto=None) == revision(steps=graph)
