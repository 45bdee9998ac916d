import pytest

from copies import tiny_params
from research import rho_grid as grid
from research_factories import runs_of
from worldmodel.sweeps.run import with_overrides


def test_arms_of_a_seed_and_a_size_share_their_dreams_and_the_control_has_others():
    runs = runs_of(rhos=(0.0, 0.3, 0.8))
    assert len(runs) == len({run.name for run in runs}) == 2 * 2 * 4
    by_rho = {
        (run.size, run.seed): {r.dreams for r in runs if (r.size, r.seed) == (run.size, run.seed)} for run in runs
    }
    assert {len(shared) for shared in by_rho.values()} == {2}
    assert len({run.dreams for run in runs}) == 2 * 4


def test_a_seed_is_added_to_both_seeds_and_a_constant_rho_is_its_own_start():
    run = next(run for run in runs_of() if run.arm.name == "rho 0.5" and run.seed == 1 and run.size == 8)
    assert run.values["train"]["seed"] == 1
    assert run.values["dreams"]["seed"] == 8
    assert run.values["prepare"]["train_episodes"] == 8
    assert {run.values["train"][key] for key in ("rho", "rho_start")} == {0.5}


def test_a_schedule_that_is_not_constant_is_an_arm_of_its_own():
    values = tiny_params()
    values["train"] |= {"rho_schedule": "linear", "rho": 0.1, "rho_start": 0.7}
    (default, *_) = [run for run in runs_of(values=values) if run.arm.name == "default"]
    assert default.values["train"]["rho_schedule"] == "linear"
    assert default.arm.rho == pytest.approx(0.4)
    (repeat, *_) = [run for run in runs_of(values=values) if run.arm.name == "repeat"]
    assert repeat.values["train"] == default.values["train"]
    assert repeat.arm.rho == default.arm.rho
    assert repeat.values["dreams"]["source"] == "repeat"
    assert not [run for run in runs_of() if run.arm.name == "default"]


def test_another_param_or_other_code_gives_another_name():
    values = tiny_params()
    arms = grid.arms([0.0], None, values["train"])
    names = [
        grid.grid(arms, [0], 1, values, extra, code)[0].name
        for extra, code in (({}, "a"), ({"train.steps": "13"}, "a"), ({}, "b"))
    ]
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("train.stepps", "3", "params.yaml has no train.stepps"),
        ("trane.steps", "3", "params.yaml has no trane.steps"),
        ("train.rho", "[", "not a value that YAML can read"),
    ],
)
def test_an_override_that_params_yaml_cannot_hold_is_named(key, text, said):
    with pytest.raises(ValueError, match=said):
        with_overrides(tiny_params(), {key: text})


def test_a_param_out_of_range_stops_the_study_before_any_run():
    with pytest.raises(ValueError, match=r"train\.steps: found 0"):
        runs_of(**{"train.steps": "0"})
