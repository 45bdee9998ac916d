"""The study of closed loops: every row from the same starts, once; peers as the planner's dynamics; who is first."""

import sys
from types import SimpleNamespace

import click
import numpy as np
import pytest
import torch
import yaml

from copies import tiny_params
from factories import make_episodes, make_packed, make_scaler
from research.control import rows, statistics, table
from research.control.cases import Case, case_of
from research.control.dynamics import PeerDynamics, fit_judge
from research.control.markdown import tables
from research.control.offline import dataset, scalers
from research.control.training import DONE, Trainer
from research.peers.admpo import Admpo
from research.peers.peer import new_peer
from research.peers.pets import Pets
from research.peers.training import Logs
from worldmodel.arrays.windows import windows
from worldmodel.client import Future
from worldmodel.core.jobs import VARIABLE as JOBS
from worldmodel.model.tensors import to_device
from worldmodel.planner import Planner

CPU = torch.device("cpu")


class Upright:
    """A cart and a pole that fall to the side they are pushed to, as a planner may believe."""

    history, horizon, feature_count, action_count, context_count = 2, 4, 4, 2, 0
    discrete, action_range = True, None

    def encode(self, features, actions=None, context=None):
        return features[-1].astype(np.float32)

    def predict(self, z, actions, context=None):
        side = z[:, None, 2] + z[:, None, 3] - 0.3 * np.cumsum(actions[..., 1] - actions[..., 0], axis=1)
        features = np.repeat(side[..., None], 4, axis=-1)
        return Future(features, np.ones(features.shape), -np.square(side))


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Runs the command on CartPole, where ours is Upright; gives what it measured."""
    measured = []

    def trained(trainer, overrides):
        (tmp_path / DONE).write_text('{"seconds": 2.5}')
        return tmp_path

    def watched(contest, row, measure=rows.Contest.measure):
        measured.append((contest.case.seed, contest.case.train_episodes, row.name))
        return measure(contest, row)

    monkeypatch.setattr(Trainer, "ours", trained)
    monkeypatch.setattr(rows, "WorldModel", SimpleNamespace(load=lambda folder: Upright()))
    monkeypatch.setattr(rows.Contest, "measure", watched)
    monkeypatch.setattr(rows, "planner", lambda model, seed: Planner(model, samples=32, iterations=1, seed=seed))
    monkeypatch.setenv(JOBS, "1")  # as the command does for good
    monkeypatch.setenv("TQDM_DISABLE", "1")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tiny_params()), encoding="utf-8")
    paths = {"params": "params.yaml", "cache": "cache", "out": "results.md"}
    named = [text for option, name in paths.items() for text in (f"--{option}", str(tmp_path / name))]

    def run(*arguments):
        measured.clear()
        asked = ("--env", "CartPole-v1", "--logs", "mixed-32", "--seeds", "0,1", "--steps", "60", *arguments)
        table.command.main([*named, *asked], standalone_mode=False)
        return list(measured), (tmp_path / "results.md").read_text(encoding="utf-8")

    return run


def test_a_call_goes_on_where_it_was_and_another_question_is_measured_anew(study):
    measured, text = study("--rows", "ours,hold")
    assert measured == [(0, 0, "ours"), (0, 0, "hold"), (1, 0, "ours"), (1, 0, "hold")]
    assert "| **ours** | **60.0 (60.0 to 60.0)** |" in text
    measured, text = study("--rows", "ours,hold,logs,random,oracle")
    assert measured == [(seed, 0, name) for seed in (0, 1) for name in ("logs", "random", "oracle")]
    assert "Ours is first in 1 of 1 columns, in 1 of them beyond chance." in text
    assert "| way | - |" in text  # with plans of 4 frames the oracle is no better than chance
    assert study("--rows", "ours,hold,logs,random,oracle") == ([], text)
    assert len(study("--rows", "ours,hold", "--starts", "2")[0]) == 4
    assert [name for *_, name in study("--rows", "ours,hold", "--logs", "weak-16")[0]] == ["ours"] * 2


def test_shares_of_dreams_are_rows_of_the_same_starts(study):
    measured, text = study("--rho", "0,0.5", "--episodes", "8,16", "--seeds", "0")
    assert measured == [(0, size, name) for size in (8, 16) for name in ("rho 0", "rho 0.5")]
    assert "| CartPole-v1 | 8 | 1 | 60.0 (60.0 to 60.0) | 60.0 (60.0 to 60.0) | +0.0 (+0.0 to +0.0) |" in text


def test_a_row_that_cannot_be_measured_is_named_and_the_others_go_on(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "d3rlpy", None)
    with pytest.raises(
        ValueError, match=r"2 results are missing; the first: CartPole-v1, mixed-32, seed 0, bc: bc needs"
    ):
        study("--rows", "bc,td3+bc,hold", "--seconds", "1")
    with pytest.raises(click.UsageError, match="--rows: found magic; expected ours, policy alone, plans alone, pets"):
        study("--rows", "magic")
    with pytest.raises(ValueError, match=r"logs 'mixed-7': expected mixed, anything, weak and how many"):
        case_of("CartPole-v1", "mixed-7", 0)


def test_starts_are_the_same_for_all_logs_and_begin_no_logged_episode():
    mixed, weak = Case("Pendulum-v1", "mixed", 400, 3), Case("Pendulum-v1", "weak", 64, 3)
    logged = {int(mixed.recording.stream(2, episode).integers(2**31)) for episode in range(400)}
    assert mixed.starts(5)[:3] == weak.starts(3)
    assert not logged.intersection(mixed.starts(100))
    assert mixed.starts(3) != Case("Pendulum-v1", "mixed", 400, 4).starts(3)


@pytest.mark.parametrize("kind", [Pets, Admpo])
@pytest.mark.parametrize("known", [1, 2, 3])
def test_a_peer_plans_with_its_own_predictions(kind, known):
    episodes = make_episodes(4, 12)
    packed, scaler = make_packed(episodes), make_scaler(episodes)
    peer, judge = new_peer(kind, packed, packed.where("train"), 0, 3, 4), fit_judge(packed, 0, steps=1)
    dynamics = PeerDynamics(peer, judge, scaler, False, None, ends=False)
    episode, ahead = episodes[1], slice(known - 1, known + 3)
    past = episode.actions[: known - 1] if known > 1 else None
    z = dynamics.encode(episode.features[:known], past)
    future = dynamics.predict(np.stack([z, z]), np.stack([episode.actions[ahead], 0 * episode.actions[ahead]]))
    view = windows(packed, np.array([1]), 3, 4)
    batch = to_device(view.read(packed.starts[1:2], np.array([3 - known])), CPU)
    with torch.no_grad():
        expected = scaler.features.inverse(peer.predict(batch).numpy())
    np.testing.assert_allclose(future.features[:1], expected, atol=1e-5)
    assert np.abs(future.features[1] - expected).max() > 1e-4
    assert future.termination is None


def test_rewards_and_endings_are_judged_from_what_was_logged():
    episodes = make_episodes(16, 30, terminal=True)
    packed = make_packed(episodes, ["train"] * 12 + ["val"] * 4)
    judge = fit_judge(packed, 0, steps=300)
    batch = windows(packed, packed.where("val"), 1, 1).take(np.arange(100))
    with torch.no_grad():
        before, *after = (
            torch.from_numpy(each[:, 0]) for each in (batch.history, batch.planned_actions, batch.features)
        )
        reward, odds = judge(before, *after)
    assert np.corrcoef(reward, batch.rewards[:, 0])[0, 1] > 0.95
    assert odds.sigmoid().mean() == pytest.approx(batch.ended.mean(), abs=0.1)


def test_offline_learners_get_the_train_episodes_and_their_ends():
    episodes = [*make_episodes(3, 9, terminal=True), *make_episodes(3, 9, seed=1)]
    logs = Logs(episodes, ["train", "train", "val", "train", "test", "train"], SimpleNamespace(kind="continuous"), None)
    made_by = SimpleNamespace(create_infinite_replay_buffer=list, Episode=lambda *columns, **end: (*columns, end))
    found = dataset(logs, made_by)
    assert [end["terminated"] for *_, end in found] == [True, True, False, False]
    np.testing.assert_array_equal(found[2][0], episodes[3].features)
    np.testing.assert_array_equal(found[2][2][:, 0], episodes[3].rewards)
    named = SimpleNamespace(StandardObservationScaler=dict, MinMaxActionScaler=dict)
    scale = scalers(logs, named)
    assert (
        scale["action_scaler"]["maximum"].tolist() == np.max([each.actions.max(0) for each in logs.train], 0).tolist()
    )
    np.testing.assert_allclose(
        scale["observation_scaler"]["mean"], np.mean([x.features.mean(0) for x in logs.train], 0), 1e-5
    )


def test_differences_are_paired_and_as_sure_as_seeds_and_starts_let_them_be():
    rng = np.random.default_rng(0)
    base = rng.normal(0, 100, (10, 3))
    shifted = statistics.difference(base + 5, base)
    assert (shifted.value, shifted.low, shifted.high) == pytest.approx((5, 5, 5))
    assert statistics.share(base + 5, base, base + 20).value == pytest.approx(0.25)
    assert statistics.share(base, base, base) is None
    one = np.repeat(rng.normal(0, 1, (10, 1)), 3, axis=1)  # starts of a seed say nothing new
    found = statistics.mean(one)
    assert found.high - found.low == pytest.approx(2 * 1.96 * one[:, 0].std() / np.sqrt(10), rel=0.1)
    assert len(statistics.means(base)) == statistics.DRAWS


def test_the_table_says_who_is_first_and_how_far_the_oracle_is():
    def results(**means):
        return {name: {"returns": [mean, mean + 1], "training": {}, "decide_ms": 1.0} for name, mean in means.items()}

    cases = [Case(env, "mixed", 64, seed) for env in ("A-v0", "B-v0") for seed in (0, 1)]
    first, second = results(ours=80, bc=40, random=0, hold=9, oracle=100), results(ours=1, bc=4, random=0)
    text = tables({case: first if case.env == "A-v0" else second for case in cases}, ["ours", "bc", "random", "oracle"])
    assert "| **ours** | **80.5 (80.0 to 81.0)** | 1.5 (1.0 to 2.0) |" in text
    assert (
        "| ours minus the best other | first: +40.0 (+40.0 to +40.0) (bc) | **BEHIND**: -3.0 (-3.0 to -3.0) (bc) |"
        in text
    )
    assert "| way | 0.80 (0.80 to 0.80) | - |" in text
    assert "| solved | 0 of 4 | - |" in text
    assert "Ours is first in 1 of 2 columns" in text
