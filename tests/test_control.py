"""Closed loops in real simulators, with bundles of a few operators."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

from commands import call
from factories import make_episodes, write_logs
from tiny_bundles import write_bundle
from worldmodel.client import WorldModel
from worldmodel.control import cloning, comparison
from worldmodel.control.episodes import Case
from worldmodel.control.logged import Logged
from worldmodel.control.oracle import Oracle
from worldmodel.control.run import Run
from worldmodel.control.simulator import Env, make, reset, space_of, start_seeds, step, width
from worldmodel.control.state import why_not
from worldmodel.core.checked import checked
from worldmodel.report.controlled import Controlled


def bundle(folder: Path, features: int = 3, actions: int = 1, reward: str = "reward", **said: str) -> Path:
    """Of Pendulum-v1, unless it is said otherwise: nothing moves, a push costs its square, the policy is still."""
    none = ", ".join("0" * actions * features)
    graphs = {
        "encoder": f"(float[b, 1, {features}] features) => (float[b, {features}] z) {{ z = Flatten(features) }}",
        "predictor": f"""(float[b, {features}] z, float[b, K, {actions}] actions)
            => (float[b, K, {features}] features, float[b, K, {features}] std, float[b, K] {reward},
                float[b, {features}] z_next)
            <int64[1] one = {{1}}, int64[1] last = {{2}}, float[{actions}, {features}] none = {{{none}}}>
            {{ frame = Unsqueeze(z, one) still = MatMul(actions, none) features = Add(frame, still) std = Exp(still)
              pushed = ReduceSumSquare<keepdims = 0>(actions, last) {reward} = Neg(pushed) z_next = Identity(z) }}""",
        "step": f"""(float[b, {features}] z, float[b, {actions}] action)
            => (float[b, {features}] z_next, float[b, {features}] features, float[b, {features}] std)
            <float[{actions}, {features}] none = {{{none}}}>
            {{ features = Identity(z) z_next = Identity(z) still = MatMul(action, none) std = Exp(still) }}""",
        "prior": f"""(float[b, {features}] z) => (float[b, {actions}] action)
            <float[{features}, {actions}] none = {{{none}}}> {{ action = MatMul(z, none) }}""",
        "value": f"""(float[b, {features}] z) => (float[b] value) <int64[1] last = {{1}}>
            {{ value = ReduceSum<keepdims = 0>(z, last) }}""",
    }
    unlike = dict.fromkeys(("feature_names", "feature_min", "feature_max", "context_min", "context_max"))
    bounds = {"action_min": json.dumps([-2] * actions), "action_max": json.dumps([2] * actions), "discount": "0.9"}
    return write_bundle(folder, texts=graphs, **unlike | bounds | said)


def control(tmp_path: Path, model: Path, env: str, *options: object) -> int:
    few = ("--episodes", 3, "--steps", 4, "--samples", 8, "--iterations", 2)
    return call("control", model, "--env", env, *few, "--out", tmp_path / "run.json", *options)


def oracle_of(env: Env, first: np.ndarray) -> Oracle:
    space = space_of(env)
    return Oracle(env, 12, len(first), width(space), not isinstance(space, Box), None)


@pytest.mark.parametrize("name", ["Pendulum-v1", "CartPole-v1", "Hopper-v5"])
def test_an_oracle_says_what_will_come_and_leaves_no_trace(name):
    with closing(make(name)) as env, closing(make(name)) as untouched:
        oracle = oracle_of(env, reset(env, 5))
        reset(untouched, 5)
        plans = np.random.default_rng(0).uniform(-1, 1, (3, 12, oracle.action_count)).astype(np.float32)
        for warm in (False, True):  # at rest, and with forces that the simulator remembers
            future = oracle.predict(np.repeat(oracle.encode([])[None], 3, axis=0), plans)
            assert not np.array_equal(future.features[0], future.features[1])
            for k, action in enumerate(plans[0][: 3 if not warm else 12]):
                taken = int(action.argmax()) if oracle.discrete else action
                came, real = step(env, taken), step(untouched, taken)
                np.testing.assert_array_equal(future.features[0, k], came.features)
                assert (future.reward[0, k], future.termination[0, k]) == (np.float32(came.reward), came.ended)
                assert (came.features.tobytes(), *came[1:]) == (real.features.tobytes(), *real[1:])
                if came.ended:
                    assert [*future.termination[0, k:], *future.reward[0, k + 1 :]] == [1] * (12 - k) + [0] * (11 - k)
                    assert (future.features[0, k:] == came.features).all()
                    break


class Hidden(gymnasium.Env):
    """Its frames come out of what cannot be copied, or is copied in vain."""

    observation_space, action_space = Box(-np.inf, np.inf, (1,)), Box(-1, 1, (1,))
    elsewhere = np.zeros(1)

    def __init__(self, stream: bool) -> None:
        self.stream = (each for each in ()) if stream else None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1), {}

    def step(self, action):
        self.elsewhere[:] += 1
        return self.elsewhere.copy(), 0.0, False, False, {}


@pytest.mark.parametrize(("stream", "why"), [(True, "cannot be copied"), (False, "does not come back")])
def test_an_environment_that_hides_its_state_has_no_oracle(stream, why):
    env = Hidden(stream)
    env.reset()
    assert why in why_not(env)


def test_a_run_is_the_same_again_however_many_work_and_the_report_reads_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cloning, "STEPS", 50)
    logs = tmp_path / "logs"
    splits = ("train", "train", "val", "test")
    episodes = make_episodes(4, 12, features=3, actions=1)
    write_logs(logs, [replace(each, split=split) for each, split in zip(episodes, splits, strict=True)])
    found = []
    for jobs in (1, 2):
        options = "--logs", logs, "--jobs", jobs, "--video", tmp_path / "run.png"
        assert control(tmp_path, bundle(tmp_path / f"{jobs}"), "Pendulum-v1", *options) == 0
        found.append(json.loads((tmp_path / "run.json").read_text()))
        times = found[-1]["planner"].pop("decide_ms")
        assert 0 < times["p50"] <= times["p99"]
    assert found[0] == found[1]
    rows = found[0]["rows"]
    assert list(rows) == list(comparison.ORDER)
    assert rows["planner"]["returns"] != rows["oracle"]["returns"]
    assert len(set(found[0]["starts"])) == 3
    run = checked(Controlled, found[0])
    assert run.trace.plans[0].features == [found[0]["trace"]["features"][0]] * 4
    assert "behaviour cloning" in capsys.readouterr().out
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_starts_that_are_solved_or_logged_are_not_played(tmp_path, monkeypatch):
    """The third start is one of the logs', and from the first one doing nothing gets what the oracle gets."""
    seeds = start_seeds(0, 9).tolist()
    with closing(make("Pendulum-v1")) as env:
        known = reset(env, seeds[2])
    episode = replace(make_episodes(1, 3, features=3, actions=1)[0], features=np.stack([known, -known, 3 * known]))
    case = Case(WorldModel.load(bundle(tmp_path / "model")), "Pendulum-v1", {}, 2, {"samples": 8, "iterations": 1}, 0)
    run = Run(case, 3, True, Logged([episode], [], []))
    answers = iter([np.array([True, False, False]), np.array([False])])
    monkeypatch.setattr(comparison, "solved", lambda *_: next(answers))
    assert run.play() == [seeds[1], seeds[3], seeds[4]]
    assert any(note.startswith("from 1 of 4 starts") for note in run.notes)


@pytest.mark.parametrize(
    ("env", "model", "options", "said"),
    [
        ("Gone-v3", {}, [], "cannot make Gone-v3"),
        ("Hopper-v5", {}, [], "bundle 000000000000 has 3 features, and Hopper-v5 11"),
        ("Acrobot-v1", {"features": 6, "actions": 3}, [], "has continuous actions, and Acrobot-v1 discrete"),
        ("Pendulum-v1", {"reward": "disagreement"}, [], "predicts no reward"),
        ("Pendulum-v1", {}, ["--cost", "math:pie"], "--cost math:pie"),
        ("Pendulum-v1", {}, ["--env-kwargs", "[]"], "expected a JSON object"),
        ("Pendulum-v1", {}, ["--video", "run.avi"], "expected a name that ends in .png"),
        ("Pendulum-v1", {}, ["--logs", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(tmp_path, capsys, env, model, options, said):
    assert control(tmp_path, bundle(tmp_path / "model", **model), env, "--no-oracle", *options) in (1, 2)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run.json").exists()


def test_a_lead_is_sure_where_every_set_of_starts_says_so():
    own = {"planner": np.array([5.0, 6, 7, 5, 6, 7]), "oracle": np.full(6, 9.0), "random": np.ones(6)}
    floors = {"hold": own["planner"] - [1, 1, -0.1, 1, 1, -0.1], "behaviour cloning": own["planner"] + 1}
    logged = comparison.logged_rows({"weak": np.array([1.0, 2]), "able": np.array([4.0])})
    found = comparison.leads(own | floors, logged)
    assert {name: each["sure"] for name, each in found.items()} == {
        "random": True,
        "hold": False,
        "behaviour cloning": False,
        "logs, mean": True,
        "logs, best agent": True,
    }
    assert found["hold"]["low"] > 0 > found["hold"]["sets"][2]
    assert found["logs, best agent"]["mean"] == 2
    assert logged["logs, best agent"]["agent"] == "able"
    told = comparison.verdict(found)
    assert "beats random" in told
    assert "not surely hold (sets of starts: +1, +1, -0.1)" in told
    share = comparison.score(own)
    assert share["low"] < share["mean"] == 0.625 < share["high"]
    assert comparison.score({name: own[name] for name in ("planner", "random")}) is None
    assert comparison.score(own | {"oracle": np.array([3.0, 2, -2, 3, 1, -1])}) is None


def test_a_start_is_solved_where_doing_nothing_gets_what_the_oracle_gets():
    hold, best = np.array([-10.0, -0.1, 5.0, -20]), np.array([0.0, 0, 5, -30])
    assert comparison.solved(hold, np.array([-30.0, -10]), best).tolist() == [False, True, True, False]


def test_logs_are_compared_by_whole_episodes_and_hold_their_starts():
    whole, short, ended = make_episodes(3, 10, agents=1)
    kept = [whole, short.between(0, 5), replace(ended.between(0, 5), terminal=True)]
    logged = Logged(kept, [], [])
    expected = [whole.rewards[:8].sum(dtype=float), ended.rewards[:5].sum(dtype=float)]
    np.testing.assert_array_equal(logged.returns(8)["agent-0"], expected)
    frames = whole.features[[0, 3]].astype(float)
    assert logged.near(np.stack([frames[0], frames[1] + 1e-5, frames[1] + 0.1])) == [True, True, False]
