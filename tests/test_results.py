import pytest

from research.rho_results import lines
from research_factories import measured, rows_of
from worldmodel.sweeps.results import by_key


def test_errors_are_weighted_by_windows_and_pieces_of_an_episode_are_one():
    row = {"split": "test", "agent_id": "a", "episode": "e", "windows": "10", "model": "1.0"}
    assert by_key([row, row | {"windows": "30", "model": "3.0"}]) == {("test", "a", "e"): (40, 2.5)}
    found = lines(measured(seeds=1, sizes=(0,)), {})
    assert found[0].test == pytest.approx((10 * 0.4 + 30 * 0.8) / 40)
    assert found[0].val == pytest.approx(1.2)


def test_sizes_go_from_few_to_all_and_arms_are_compared_with_rho_0_and_the_control():
    given = measured()
    teacher = {each.run.dreams: rows_of(0.2 * (1 + each.run.seed)) for each in given if each.run.arm.name == "rho 0"}
    found = lines(given, teacher)
    assert [(line.size, line.arm) for line in found] == [
        (size, arm) for size in (8, 0) for arm in ("rho 0", "rho 0.5", "repeat", "teacher")
    ]
    none, half, repeat, teacher = found[:4]
    assert none.test_change is None
    assert half.test_change.value == pytest.approx(-0.25)
    assert half.against_repeat.value == pytest.approx(-0.4)
    assert repeat.against_repeat is None
    assert teacher.test_change.value == pytest.approx(-0.5)
    assert {line.seeds for line in found} == {2}


def test_a_run_that_is_missing_leaves_its_seed_out_of_the_pairs():
    given = [each for each in measured() if (each.run.arm.name, each.run.seed) != ("rho 0.5", 1)]
    half = lines(given, {})[1]
    assert half.seeds == 1
    assert half.test_change.value == pytest.approx(-0.25)


def test_runs_on_different_episodes_are_not_compared():
    given = measured()
    given[0].rows[0]["episode"] = "another"
    with pytest.raises(ValueError, match="different test episodes"):
        lines(given, {})
