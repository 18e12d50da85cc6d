"""The search on planted models, whose quality, size and speed the test knows: who wins, what is tried, and what a kill costs."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.recipes.planted import (
    AUTO,
    GRAPH,
    LEAVES,
    PLAIN,
    SMALL,
    SPACE,
    TRAIN,
    VALIDATION,
    Truth,
    World,
    budgets,
    candidates,
    names_of,
    space_of,
    spaces,
    told,
    trials,
    world,
    worlds,
)

from optimodel import recipes
from optimodel.api.contract import GateResult
from optimodel.api.search import Auto
from optimodel.api.spec import Gate
from optimodel.api.steps import FineTune, Quantize, Step
from optimodel.recipes import search
from optimodel.recipes.search import (
    Budget,
    Finding,
    Observation,
    Sensitivity,
    Space,
    Timing,
)
from optimodel.recipes.search.noise import NOISE
from optimodel.recipes.search.space import FULL, INSTEAD, METHODS, Candidate, excluding, pruned

TWINS = ["static-int8, tables in 4 bits", "dynamic-int8, tables in 4 bits"]
"""What is tried behind the plain methods where the two int8 ones are the best or first of equals."""


@settings(max_examples=150)
@given(world=worlds, space=spaces, budget=budgets)
def test_the_winner_holds_the_floor_is_on_the_front_and_cost_no_more_than_the_budget(
    world: World, space: Space, budget: Budget
) -> None:
    findings = world.run(space, budget)
    assert not any(isinstance(f, Timing) for f in findings[:-1]), "one final, behind everything"
    searched = [f for f in findings if not isinstance(f, Timing)]
    assert sum(f.seconds for f in searched[:-1]) < budget.seconds, "none began after the time"
    choice = search.choose(findings, "Latency")
    settled = search.settled(findings, "Latency")
    tried = trials(settled)
    assert len(tried) == len({o.candidate for o in tried}) <= budget.trials, "no trial twice"
    good = [o for o in tried if search.feasible(o)]
    gains = [o for o in good if o.value <= 1 + NOISE]
    assert (choice.winner is None) == (not gains)
    if choice.winner is None:
        return
    by_name = candidates(space, findings)
    assert 1 - world.truth(by_name[choice.winner.candidate]).drop >= world.floor, "whatever the measurements are off"
    assert choice.winner in search.front(settled)
    could = [o for o in tried if o.value is not None and 1 - world.truth(by_name[o.candidate]).drop >= world.floor]
    proved = [o.value for o in could if o.stage == "Timed" or search.feasible(o)]
    if not world.clock:
        assert choice.winner.value == min(v for v in proved if v is not None), "none was faster"


@settings(max_examples=60)
@given(world=worlds, space=spaces)
def test_the_tree_stays_small_and_holds_what_is_legal(world: World, space: Space) -> None:
    findings = world.run(space, search.ENDLESS)
    assert len(trials(findings)) <= LEAVES
    for name, candidate in candidates(space, findings).items():
        assert not recipes.check("TextClassification", candidate.steps(space.fixed), (), space.data), name


@settings(max_examples=40)
@given(world=worlds, space=spaces, budget=budgets, cut=st.integers(0, 60))
def test_a_search_that_was_killed_ends_like_one_that_was_not(
    world: World, space: Space, budget: Budget, cut: int
) -> None:
    whole = world.run(space, budget)
    world.told.clear()
    stored = msgspec.json.encode(whole[:cut])
    assert world.run(space, budget, msgspec.json.decode(stored, type=list[Finding])) == whole
    left = [told(f) for f in whole[cut:] if not isinstance(f, Sensitivity)]
    assert world.told == left, "what is known was not measured again"


def test_a_tie_goes_to_the_smaller_and_then_to_the_simpler() -> None:
    like = world(dynamic_int8=Truth(0, 0.26, 0.50), static_int8=Truth(0.001, 0.25, 0.50))
    choice = search.choose(replace(like, clock=NOISE).run(SPACE, search.ENDLESS), "Latency")
    assert choice.winner.candidate == "static-int8"
    assert choice.reason.endswith("2 were timed in turn; of 2 that noise does not tell apart the smallest.")
    equal = [
        Observation(name, "Judged", steps=n, weights_bytes=9, quality=q, latency=ms, value=ms)
        for name, n, q, ms in (("two steps", 2, 0.99, 0.50), ("one step", 1, 0.98, 0.49))
    ]
    assert search.choose(equal, "Latency").winner.candidate == "one step"


def test_the_faster_one_wins_the_final_though_it_is_larger_and_its_trial_was_unlucky() -> None:
    near = world(dynamic_int8=Truth(0.001, 0.26, 0.50), static_int8=Truth(0.001, 0.25, 0.53))
    before, after = [], []
    for draw in range(100):
        findings = replace(near, clock=NOISE, draw=draw).run(SPACE, search.ENDLESS)
        held = [set(f.candidates) for f in findings if isinstance(f, Timing)]
        assert held in ([{"dynamic-int8", "static-int8"}], []), (
            "none where the trials tell enough; the others are far behind"
        )
        before.append(search.choose(trials(findings), "Latency").winner.candidate)
        after.append(search.choose(findings, "Latency").winner.candidate)
    assert before.count("dynamic-int8") < 50 and after.count("dynamic-int8") >= 98


def test_finalists_are_few_feasible_and_near_the_best_and_bytes_are_not_timed() -> None:
    def found(name: str, value: float, verdict: str = "Pass") -> Observation:
        gates = (GateResult("alike", "CosineMean", verdict, "0.99"),)
        return Observation(name, "Judged", weights_bytes=9, gates=gates, quality=0.99, latency=value, value=value)

    near = [found(f"{n}", 0.5 + n / 100) for n in range(6)]
    missed, far = found("misses the floor", 0.4, "Fail"), found("far", 0.62)
    asked = search.finalists([far, missed, *reversed(near)], "Latency")
    assert [o.candidate for o in asked] == ["0", "1", "2", "3"]
    assert search.finalists([*near, missed], "Size") == ()
    assert search.finalists([near[0], missed, far], "Throughput") == (), "one has nobody to be timed against"
    assert search.finalists([found("slow", 1.2), found("slower", 1.3)], "Cost") == (), "the baseline is kept"


def test_the_final_counts_and_not_what_the_trials_said() -> None:
    def found(name: str, size: int, value: float) -> Observation:
        return Observation(name, "Judged", weights_bytes=size, quality=0.99, latency=value, value=value)

    lucky, steady, far = found("lucky", 8, 0.50), found("steady", 9, 0.55), found("small", 1, 0.65)
    timing = Timing(("lucky", "steady"), ((0.60, 0.90, 0.61) * 3, (0.58, 0.87, 0.60) * 3))
    choice = search.choose([far, lucky, steady, timing], "Latency")
    assert choice.winner == msgspec.structs.replace(steady, value=0.60, latency=0.60), (
        "in every round, whatever that was like"
    )
    assert search.choose([far, lucky, steady, timing], "Throughput").winner.latency == 0.55, "another shape"
    assert "0.600 of the baseline's" in choice.reason and choice.reason.endswith("2 were timed in turn.")
    slow = Timing(timing.candidates, tuple(tuple(1.3 * v for v in values) for values in timing.values))
    assert search.choose([lucky, steady, slow], "Latency").winner == msgspec.structs.replace(
        steady, value=0.78, latency=0.78
    )
    assert search.choose([far, lucky, steady, slow], "Latency").winner.candidate == "steady", (
        "one trial may have been lucky"
    )
    sure = found("small", 1, 0.60)
    assert search.choose([sure, lucky, steady, slow], "Latency").winner == sure, (
        "who is faster in spite of all noise is the best"
    )


def test_the_winner_stays_on_the_front_though_another_was_lucky_in_its_trial() -> None:
    """It had no room in the final, and its trial reads better in everything than the winner's final: it stands beside it."""

    def found(name: str, size: int, value: float) -> Observation:
        return Observation(name, "Judged", weights_bytes=size, quality=0.99, latency=value, value=value)

    timed = [found("best", 9, 0.50), found("slower", 9, 0.51)]
    lucky, far = found("lucky", 8, 0.53), found("far", 8, 0.9)
    findings = [*timed, lucky, far, Timing(("best", "slower"), ((0.60,) * 9, (0.70,) * 9))]
    winner = search.choose(findings, "Latency").winner
    assert winner is not None and winner.candidate == "best"
    assert [o.candidate for o in search.front(search.settled(findings, "Latency"))] == ["lucky", "best"]


def test_the_front_lists_what_nothing_else_is_better_than() -> None:
    def found(name: str, size: int, quality: float, latency: float) -> Observation:
        return Observation(name, "Judged", weights_bytes=size, quality=quality, latency=latency, value=latency)

    best, same = found("best", 9, 0.99, 0.5), found("its like", 9, 0.99, 0.5)
    small, worse = found("small", 8, 0.98, 0.5), found("in one thing worse", 9, 0.98, 0.5)
    assert search.front([worse, small, same, best]) == (small, best, same)


def test_precision_is_given_back_where_it_hurts_until_the_floor_is_met() -> None:
    w = world(static_int8=Truth(0.04, 0.25, 0.3), dynamic_int8=Truth(0.001, 0.25, 0.9))
    findings = w.run(SPACE, search.ENDLESS)
    (found,) = [f for f in findings if isinstance(f, Sensitivity)]
    assert (found.method, found.ranked[0]) == ("static-int8", "FFNDown")
    names = names_of(findings)
    assert names[-2:] == ["static-int8 except FFNDown", "static-int8 except FFNDown, Attention"]
    winner = search.choose(findings, "Latency").winner
    assert winner.candidate == names[-1]
    chosen = candidates(SPACE, findings)[winner.candidate].steps((Step("graph", "Export"),))
    wanted = Quantize("Static", data="q/train", exclude=("FFNDown", "Attention"))
    assert chosen == (Step("graph", "Export"), Step("auto-quantize", "Quantize", quantize=wanted))


def test_what_holds_the_floor_by_more_precision_alone_is_pruned_then() -> None:
    methods = {name: Truth(0.03, 0.3, 0.5) for name in (*METHODS["CPU"], FULL)}
    findings = World(methods, 0.985).run(space_of(AUTO), search.ENDLESS)
    names = names_of(findings)
    first = next(n for n in names if n.endswith(" except FFNDown"))
    assert f"FFN pruned, {first}" in names
    assert not any(" pruned, " in n and " except " not in n for n in names), "it would miss the floor the more"


def test_the_quality_of_a_trial_is_the_first_figure_of_its_answers() -> None:
    size = GateResult("size", "SizeRatio", "Pass", value="0.3")
    loss = GateResult("loss", "AccuracyDrop", "Pass", value="0.01")
    assert search.quality((size, loss)) == -0.01
    assert search.quality((size,)) is None


def test_precision_helps_no_model_that_is_too_large() -> None:
    findings = world(static_int8=Truth(0.1, 0.5, 0.3), bars=(Gate("size", "SizeRatio", max="0.4"),)).run(
        SPACE, search.ENDLESS
    )
    assert not [f for f in findings if isinstance(f, Sensitivity)]


def test_pruning_follows_what_is_feasible_and_a_longer_one_the_shorter() -> None:
    space = space_of(AUTO)
    held = trials(world().run(space, search.ENDLESS))
    assert "FFN pruned, Vocabulary pruned, dynamic-int8" in [o.candidate for o in held]
    w = World(PLAIN, 0.985, pruning=Truth(0.1, 0.5, 0.5))
    names = [o.candidate for o in trials(w.run(space, search.ENDLESS))]
    assert "FFN pruned, dynamic-int8" in names and "Vocabulary pruned, dynamic-int8" in names
    assert not [n for n in names if n.startswith("FFN pruned, Vocabulary")], "it was too much already"


def test_what_stands_in_for_a_method_is_tried_where_that_falls_short() -> None:
    names = [o.candidate for o in trials(world().run(SPACE, search.ENDLESS))]
    assert not set(names) & set(INSTEAD.values()), "as small, no faster, and nobody misses anything"
    w = world(weights_int4=Truth(0.03, 0.16, 0.9), gptq_int4=Truth(0.01, 0.16, 0.9), float16=Truth(0.5, 0.5, 0.9))
    findings = w.run(SPACE, search.ENDLESS)
    names = names_of(findings)
    assert sorted(names[5:7]) == ["bfloat16", "gptq-int4"], "both hold the floor"
    assert names[7:] == TWINS
    chosen = candidates(SPACE, findings)["gptq-int4"].quantize
    assert chosen == Quantize("GPTQ", bits=4, data=TRAIN)
    assert search.choose([o for o in trials(findings) if o.candidate == "gptq-int4"], "Size").winner is not None
    coarse = world(
        weights_int4=Truth(0.06, 0.16, 0.9), gptq_int4=Truth(0.03, 0.16, 0.9), awq_int4=Truth(0.04, 0.16, 0.9)
    )
    findings = coarse.run(SPACE, search.ENDLESS)
    assert names_of(findings)[5:] == ["gptq-int4", "awq-int4", *TWINS, "gptq-int4 except FFNDown"]
    no_text = space_of(Auto(VALIDATION))
    assert "gptq-int4" not in [o.candidate for o in trials(coarse.run(no_text, search.ENDLESS))], "it calibrates"


def test_the_best_get_smaller_tables_which_cost_no_time_and_are_then_pruned() -> None:
    space = space_of(Auto(VALIDATION, train=TRAIN, prune=("Layers",)))
    fine = replace(world(dynamic_int8=Truth(0.001, 0.26, 0.5)), tables=Truth(0.001, 0.8, 1))
    findings = fine.run(space, search.ENDLESS)
    names = names_of(findings)
    twin, pruned_twin = "dynamic-int8, tables in 4 bits", "Layers pruned, dynamic-int8, tables in 4 bits"
    assert twin in names[5:7] and pruned_twin in names[7:]
    choice = search.choose(findings, "Latency")
    assert choice.winner.candidate == pruned_twin, "as fast, and smaller"
    assert candidates(space, findings)[pruned_twin].quantize == Quantize("Dynamic", embedding_bits=4)
    plain = {c.method: c for c in space.leaves}
    assert not [n for n in ("weights-int4", "float16") if space.with_small_tables(plain[n])]
    assert space.with_small_tables(excluding(plain["dynamic-int8"], ("Embeddings",))) is None
    assert not any(map(replace(space, task="ImageClassification").with_small_tables, space.leaves)), "images have none"


def test_what_is_too_large_gets_smaller_tables_too() -> None:
    small = Gate("size", "SizeRatio", max="0.22")
    w = world(dynamic_int8=Truth(0.001, 0.25, 0.5), static_int8=Truth(0.001, 0.29, 0.6), bars=(small,))
    findings = replace(w, tables=Truth(0.001, 0.8, 1)).run(SPACE, search.ENDLESS)
    assert search.choose(findings, "Latency").winner.candidate == "dynamic-int8, tables in 4 bits"


def test_what_misses_the_floor_by_its_answers_gets_no_smaller_tables() -> None:
    poor = world(dynamic_int8=Truth(0.03, 0.26, 0.5), weights_int8=Truth(0.03, 0.27, 0.9))
    assert [name for name in names_of(poor.run(SPACE, search.ENDLESS)) if "tables" in name] == TWINS[:1]


def test_of_equals_the_smaller_and_better_go_to_the_final() -> None:
    """There is room for four, and two of them are the small twins, which lose nothing here."""
    methods = {name: Truth(0.004, 0.3, 0.5) for name in (*METHODS["CPU"], FULL)} | {
        "static-int8": Truth(0.001, 0.3, 0.5)
    }
    findings = World(methods, 0.985, tables=Truth(0, 0.8, 1)).run(SPACE, search.ENDLESS)
    assert search.choose(findings, "Latency").winner.candidate == "static-int8, tables in 4 bits"


def test_every_other_layer_is_taught_before_anything_else_is_pruned() -> None:
    space = space_of(Auto(VALIDATION, train=TRAIN, prune=("Vocabulary", "Layers"), seed=3))
    findings = world().run(space, search.ENDLESS)
    assert search.choose(findings, "Latency").winner.candidate.startswith("Layers pruned, Vocabulary pruned, ")
    name = next(o.candidate for o in trials(findings) if o.candidate.startswith("Layers pruned, "))
    found = candidates(space, findings)[name]
    tune = Step("adapt", "FineTune", fine_tune=FineTune(TRAIN))
    steps = found.steps((tune, GRAPH))
    assert [step.type for step in steps] == ["FineTune", "Distill", "Export", "Quantize"]
    assert steps[1].distill.training.seed == 3


def test_prunings_that_share_their_first_steps_come_together() -> None:
    space = space_of(Auto(VALIDATION, train=TRAIN, prune=("Vocabulary", "FFN", "Layers")))
    names = [pruned(Candidate("int8"), way).name.removesuffix(", int8") for way in space.prunings]
    assert [name.replace(" pruned", "").replace(",", "") for name in names] == [
        "Layers",
        *("Layers FFN", "Layers FFN Vocabulary", "Layers FFN more", "Layers FFN more Vocabulary", "Layers Vocabulary"),
        *("FFN", "FFN Vocabulary", "FFN more", "FFN more Vocabulary", "Vocabulary"),
    ]


def test_more_goes_where_half_of_it_held_the_floor_and_nothing_is_tried_that_more_may_go_from() -> None:
    space = space_of(Auto(VALIDATION, train=TRAIN, prune=("FFN", "Layers")))
    fine, coarse = replace(world(), pruning=Truth(0.002, 0.7, 0.8)), replace(world(), pruning=Truth(0.02, 0.7, 0.8))
    best = "dynamic-int8"
    held = [
        n
        for n in names_of(fine.run(space, search.ENDLESS))
        if n.endswith(f" pruned, {best}") or n.endswith(f"more, {best}")
    ]
    assert held == [
        f"Layers pruned, {best}",
        f"Layers pruned, FFN pruned, {best}",
        f"Layers pruned, FFN pruned more, {best}",
    ]
    assert search.choose(fine.run(space, search.ENDLESS), "Latency").winner.candidate == held[-1]
    half = replace(world(), pruning=Truth(0.006, 0.7, 0.8)).run(space, search.ENDLESS)
    assert search.choose(half, "Latency").winner.candidate == held[1], "a quarter is too little here"
    missed = [n for n in names_of(coarse.run(space, search.ENDLESS)) if n.endswith(best) and n != best]
    assert missed == [f"Layers pruned, {best}", f"FFN pruned, {best}"]


def test_the_seed_draws_the_order_and_what_promises_most_comes_first() -> None:
    def order(seed: int) -> list[str]:
        return [c.method for c in space_of(Auto(VALIDATION, train=TRAIN, seed=seed), SMALL).leaves]

    assert order(0) == order(0)
    assert len({tuple(order(seed)) for seed in range(9)}) > 1
    assert all(set(order(seed)[:2]) == {"dynamic-int8", "static-int8"} for seed in range(9))
    assert order(0)[-1] == FULL
    without = [c.method for c in space_of(Auto(VALIDATION)).leaves]
    assert "static-int8" not in without and FULL not in without, "no data to calibrate on; and fp32 is the baseline"


def test_nothing_feasible_and_nothing_gained_keep_the_baseline_and_say_why() -> None:
    coarse = World({name: Truth(0.2, 0.3, 0.5) for name in PLAIN}, 0.985)
    choice = search.choose(coarse.run(SPACE, Budget(4, 1e9)), "Latency")
    assert choice.winner is None
    assert choice.reason.startswith("0 of 4 candidates hold the floor; the nearest, ")
    assert "has CosineMean 0.8 [" in choice.reason and choice.reason.endswith("The baseline is kept.")
    slow = World({name: Truth(0.001, 0.3, 1.3) for name in PLAIN}, 0.985)
    assert search.choose(slow.run(SPACE, search.ENDLESS), "Latency").reason == (
        "5 of 7 candidates hold the floor, and none of them with a gain. The baseline is kept."
    )
    large = World({name: Truth(0.001, 0.5, 0.5) for name in PLAIN}, 0.985, bars=(Gate("size", "SizeRatio", max="0.4"),))
    missed = search.choose(large.run(SPACE, Budget(4, 1e9)), "Latency").reason
    assert "has SizeRatio 0.5 [" in missed and missed.endswith("against 0.4. The baseline is kept."), missed
    broken = [Observation(name, "Failed", message="StepNotVerified: It does not run.") for name in ("one", "two")]
    assert search.choose(broken, "Size").reason == (
        "0 of 2 candidates hold the floor; one could not be made (StepNotVerified: It does not run). The baseline is kept."
    )
    assert search.choose([], "Size").winner is None
