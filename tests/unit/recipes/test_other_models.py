"""Other models that steps name: what is refused of them, and what they are to the identity and to the pods of a Job."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.recipes.test_identity import HUB, RUNTIME

from optimodel.api import contract
from optimodel.api.contract import JobInput
from optimodel.api.sources import PVC, S3, Artifacts, HuggingFace, LocalRef, Model
from optimodel.api.spec import Batching, Optimization, Parameter, RecipeRef, RecipeSpec
from optimodel.api.steps import Distill, Step
from optimodel.recipes import identity, models, settings
from optimodel.recipes.resolve import resolve
from optimodel.resources.job import optimize_job

GRAPH = Step("graph", "Export")
SMALL = Model("small", s3=S3("s3://models/small", secret_ref=LocalRef("store")))
HALF = Model("half", hugging_face=HuggingFace("org/half", secret_ref=LocalRef("hf")))
CLAIMED = Model("claimed", pvc=PVC("models", "half"))


def taught(student: str | None = "small", **changes) -> Step:
    return Step("taught", "Distill", distill=Distill("d", hidden="0", student=student, **changes))


@pytest.mark.parametrize(
    ("given", "reason", "words"),
    [
        ((), "StepModelUnknown", "'taught' names model 'small'; spec.models has: none. Add it or name another."),
        ((HALF, CLAIMED), "StepModelUnknown", "spec.models has: half, claimed."),
        ((SMALL, SMALL), "DuplicateName", "'small'"),
        ((SMALL, Model("half")), "SourceInvalid", "'half' of spec.models needs exactly one of huggingFace, s3 and pvc"),
        ((msgspec.structs.replace(SMALL, pvc=CLAIMED.pvc),), "SourceInvalid", "exactly one"),
    ],
)
def test_models_that_cannot_be_meant(given, reason, words):
    (found,) = models.check((taught(), GRAPH), given)
    assert found.reason == reason and words in found.message


def test_models_that_no_step_names_are_nobodys_problem():
    assert [*models.check((GRAPH,), (SMALL, HALF))] == [*models.check((taught(), GRAPH), (HALF, SMALL))] == []


def test_a_student_of_its_own_has_neither_the_teachers_layers_nor_its_states():
    own = Step("taught", "Distill", distill=Distill("d", student="small", keep_layers=(1,)))
    found = [(problem.reason, problem.message) for problem in settings.check(own)]
    assert [reason for reason, _ in found] == ["SettingUnused"] * 2
    assert "keepLayers are the teacher's" in found[0][1] and 'Set hidden: "0".' in found[1][1]
    assert [*settings.check(taught())] == []


def test_a_recipe_may_leave_the_student_open():
    recipe = RecipeSpec((taught("$(student)"), GRAPH), parameters=(Parameter("student"),))
    own = Optimization(recipe_ref=RecipeRef("r"), parameters={"student": "small"})
    assert resolve("TextEmbedding", own, recipe).optimization.steps == (taught(), GRAPH)


def test_models_that_steps_name_are_part_of_what_is_made_and_no_others():
    def revision(*given, student="small"):
        steps = (taught(student), GRAPH)
        return identity.revision_hash("TextEmbedding", HUB, steps, Batching(), RUNTIME, models=given)

    elsewhere = msgspec.structs.replace(SMALL, s3=S3("s3://models/smaller"))
    unsigned = msgspec.structs.replace(SMALL, s3=S3("s3://models/small/"))
    assert revision(SMALL) == revision(HALF, SMALL) == revision(unsigned)
    assert len({revision(SMALL), revision(elsewhere), revision(CLAIMED, student="claimed")}) == 3
    assert revision(SMALL, student=None) == revision(student=None)

    def job(*given):
        return identity.job_hash("e", source=HUB, artifacts=Artifacts(), models=given)

    assert len({job(), job(SMALL), job(unsigned), job(SMALL, HALF)}) == 4


def test_a_pod_reaches_each_model_by_its_own_credentials():
    told = JobInput(
        "m", "a", "r", "e", "TextEmbedding", HUB, Artifacts(), (taught(), GRAPH), models=(SMALL, HALF, CLAIMED)
    )
    made = optimize_job(name="j", job=told, owner=[], image="w", pull_policy="Never", timeout="1h", pod_template=None)
    pod = made["spec"]["template"]["spec"]
    given = {e["name"]: e["valueFrom"].get("secretKeyRef") for e in pod["containers"][0]["env"] if "valueFrom" in e}
    assert {name: ref for name, ref in given.items() if ref} == {
        "MODEL_SMALL_AWS_ACCESS_KEY_ID": {"name": "store", "key": "AWS_ACCESS_KEY_ID"},
        "MODEL_SMALL_AWS_SECRET_ACCESS_KEY": {"name": "store", "key": "AWS_SECRET_ACCESS_KEY"},
        "MODEL_HALF_HF_TOKEN": {"name": "hf", "key": "HF_TOKEN"},
    }
    (claim,) = (v for v in pod["volumes"] if "persistentVolumeClaim" in v)
    assert claim["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts[claim["name"]]["mountPath"] == f"{contract.MODEL_MOUNT}/claimed"
