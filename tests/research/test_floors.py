from dataclasses import replace

import numpy as np
import pytest

from copies import tiny_params
from factories import PARAMS
from research.drawn import SYSTEMS, episodes
from research.floor_runs import Case, Skipped, measure
from research.floor_scores import Row, beyond_noise, residuals
from research.floors import summary
from worldmodel.arrays.packing import labels_of, pack
from worldmodel.arrays.scaler import fit
from worldmodel.arrays.windows import windows
from worldmodel.core import params
from worldmodel.evaluation.metrics import best_floor
from worldmodel.evaluation.scoring import Predictors
from worldmodel.logs.writing import write_jsonl


@pytest.mark.parametrize("name", [name for name, system in SYSTEMS.items() if system.best])
def test_the_best_floor_of_a_drawn_system_is_the_one_it_is_made_for(name):
    drawn = [each.table() for each in episodes(name, 40, 60)]
    scaler = fit(drawn[:20], "standard", PARAMS.normalize.min_std, one_hot=False)
    packed = pack(drawn, scaler, labels_of(episodes(name, 40, 60), ["train"] * 20 + ["test"] * 20))
    found = residuals(Predictors.fitted(None, scaler, packed), windows(packed, packed.where("test"), 8, 16))
    assert best_floor({floor: np.mean(each**2) for floor, each in found.items()}) == SYSTEMS[name].best


def test_a_row_holds_what_is_known_of_a_random_walk_and_of_the_episodes_asked_for(tmp_path):
    log = tmp_path / "walk.jsonl.gz"
    write_jsonl(log, episodes("walk", 140, 60))
    settings = params.check(tiny_params(), tmp_path)
    settings = replace(settings, train=replace(settings.train, rho=0.0))
    case = Case("walk", log, 10, 0, 0, every_seventh=True, few_val=True)
    row = measure(case, settings)
    assert (row.kind, row.train, row.val, row.test, row.best) == ("walk", 10, 3, 20, "persistence")
    ahead = np.arange(1, settings.train.horizon + 1)  # variance of what follows; k + k^2 where it is carried on
    times = (ahead + ahead**2).mean() / ahead.mean()
    assert row.mse_last_change / row.mse_persistence == pytest.approx(times, rel=0.1)
    nats = row.likelihood_persistence - row.likelihood_last_change
    assert nats == pytest.approx(0.5 * np.log(1 + ahead).mean(), rel=0.1)
    assert row.skill == pytest.approx(1 - row.mse / row.mse_persistence)
    with pytest.raises(Skipped):
        measure(replace(case, size=64, below=120), settings)


def test_what_is_larger_in_all_draws_of_episodes_is_beyond_noise_and_two_episodes_tell_nothing():
    floor = np.random.default_rng(0).uniform(1, 2, (12, 2))
    own = floor * [1.1, 1.0] + [[0, 0.1], [0, -0.1]] * 6
    assert beyond_noise(own, floor).tolist() == [True, False]
    assert not beyond_noise(own[:2], floor[:2]).any()


def test_the_summary_names_the_runs_that_miss_an_aim():
    good = Row(*["walk", 8, *[0] * 9], "mean", *[0] * (len(Row._fields) - 12))
    good = good._replace(skill=0.1, likelihood=0.6, coverage=0.92, worst_coverage=0.85, step=1)
    rows = [good, good._replace(kind="drone", skill=-0.1, worse=1), good._replace(kind="rate", beyond_10=0.1)]
    told = summary(rows)
    assert [each for each in told if "drone 8" in each] == told[:2]
    assert [each for each in told if not each.startswith("0 of 3")] == [
        *told[:2],
        *(each for each in told if "rate" in each),
    ]
