import gzip
import json
import runpy
import sys
from collections import defaultdict
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary

from examples import collect_gymnasium
from worldmodel.logs.reader import read_logs

ANY_STATE = Box(-np.inf, np.inf, (2,), np.float64)


class Adder(gymnasium.Env):
    """x' = x + a in every dimension; earns the sum of a; ends for good where `lifetime` actions were taken."""

    def __init__(self, action_space, observation_space=ANY_STATE, lifetime=1000, breaks_at=None):
        self.action_space, self.observation_space = action_space, observation_space
        self.lifetime, self.breaks_at = lifetime, breaks_at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age, self.x = 0, self.np_random.integers(-3, 3, 2).astype(np.float64)
        return self.x.copy(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        moved = np.float64(action - self.action_space.start if isinstance(self.action_space, Discrete) else action)
        self.age, self.x = self.age + 1, self.x + moved
        if self.age == self.breaks_at:
            self.x[0] = np.nan
        return self.x.copy(), moved.sum(), self.age == self.lifetime, False, {}


@pytest.fixture
def adder():
    """Registers an Adder and gives its id; collect_gymnasium finds it as any other environment."""

    def register(*arguments, **settings):
        gymnasium.register("Adder-v0", lambda: Adder(*arguments, **settings))
        return "Adder-v0"

    yield register
    gymnasium.registry.pop("Adder-v0", None)


@pytest.fixture
def collect(tmp_path):
    """Runs the command line with its further arguments; gives the frames that it wrote."""

    def run(env, episodes, *arguments, name="log.jsonl"):
        path = tmp_path / name
        collect_gymnasium.main([env, "--episodes", str(episodes), "--out", str(path), *map(str, arguments)])
        return [json.loads(line) for line in path.read_text().splitlines()]

    return run


def episodes_of(frames):
    found = defaultdict(list)
    for frame in frames:
        found[frame["agent_id"], frame["meta"]["episode"]].append(frame)
    return list(found.values())


def column(frames, name):
    return np.array([frame[name] for frame in frames])


def refusal(capsys, tmp_path, *arguments):
    """What the command says where it refuses to record."""
    with pytest.raises(SystemExit) as stop:
        collect_gymnasium.main(["--out", str(tmp_path / "refused.jsonl"), *arguments])
    assert stop.value.code == 2
    assert list(tmp_path.iterdir()) == []
    return capsys.readouterr().err.splitlines()[-1].split(": error: ")[1]


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_the_same_arguments_write_the_same_bytes_and_another_seed_other_frames(env, collect, tmp_path):
    _, again, other = (collect(env, 9, "--steps", 30, "--seed", seed, name=f"{at}") for at, seed in enumerate("334"))
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()
    for name in ("features", "action"):
        assert [frame[name] for frame in again] != [frame[name] for frame in other]


def test_gzip_holds_the_plain_lines_with_no_time_and_no_file_name(collect, tmp_path):
    collect("Pendulum-v1", 2, "--steps", 10)
    collect_gymnasium.main(["Pendulum-v1", "--episodes=2", "--steps=10", "--out", str(tmp_path / "log.jsonl.gz")])
    packed = (tmp_path / "log.jsonl.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "log.jsonl").read_bytes()
    assert packed[3:8] == bytes(5)  # flags and time


def test_a_vector_action_leads_from_its_frame_to_the_next_and_earns_its_reward(adder, collect):
    frames = collect(adder(Box(-1, 1, (2,), np.float32)), 8, "--steps", 40, "--decimals", 2)
    assert len(frames) == 8 * 40
    for episode in episodes_of(frames):
        features, actions = column(episode, "features"), column(episode, "action")
        np.testing.assert_allclose(features[1:], features[:-1] + actions[:-1], atol=1e-6)
        np.testing.assert_allclose(column(episode, "reward"), actions.sum(axis=1), atol=1e-6)
        assert np.abs(actions).max() > 0.1


def test_an_integer_action_counts_from_0_and_leads_from_its_frame_to_the_next(adder, collect):
    frames = collect(adder(Discrete(3, start=5)), 8, "--steps", 40)
    for episode in episodes_of(frames):
        features, actions = column(episode, "features"), column(episode, "action")
        np.testing.assert_array_equal(features[1:], features[:-1] + actions[:-1, None])
        np.testing.assert_array_equal(column(episode, "reward"), actions)
    assert {frame["action"] for frame in frames} == {0, 1, 2}
    assert {type(frame["action"]) for frame in frames} == {int}


@pytest.mark.parametrize(
    ("bounds", "reached"),
    [
        ((-2, 6), (-2, 6)),
        ((-np.inf, np.inf), (-1, 1)),
        ((3, np.inf), (3, 5)),
        ((-np.inf, 3), (1, 3)),
        ((-2 / 3, 2 / 3), (-2 / 3, 2 / 3)),  # which one decimal would overstep
    ],
)
def test_vector_actions_span_the_bounds_and_two_units_where_a_side_is_open(bounds, reached, adder, collect):
    frames = collect(adder(Box(*map(np.float32, bounds), (2,), np.float32)), 8, "--steps", 40, "--decimals", 1)
    assert (column(frames, "action").min(), column(frames, "action").max()) == pytest.approx(reached)


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_eight_agents_take_turns_and_no_two_episodes_are_alike(env, collect):
    frames = collect(env, 17, "--steps", 60)
    found = episodes_of(frames)
    agents = [episode[0]["agent_id"] for episode in found]
    assert len(set(agents)) == 8
    assert agents == (agents[:8] * 3)[:17]
    assert len({json.dumps([frame["features"] for frame in episode]) for episode in found}) == 17


def test_chosen_agents_take_turns_and_behave_as_beside_the_others(adder, collect):
    env = adder(Box(-1, 1, (2,), np.float32))
    every, weak, two = (
        collect(env, *asked, "--steps", 40)
        for asked in ((8,), (2, "--agents", "weak"), (4, "--agents", "held,anything"))
    )
    assert [episode[0]["meta"]["episode"] for episode in episodes_of(weak)] == ["weak-0-0000", "weak-0-0001"]
    assert [episode[0]["agent_id"] for episode in episodes_of(two)] == ["held", "anything"] * 2
    centre = [column(found, "action").mean() for found in (episodes_of(every)[3], weak)]
    assert centre[0] == pytest.approx(centre[1], abs=0.1)
    free = np.concatenate([column(episode, "action") for episode in episodes_of(two)[1::2]])
    assert np.abs(free).max() > 0.97
    assert free.std() == pytest.approx(1 / np.sqrt(3), abs=0.06)


@pytest.mark.parametrize("space", [Box(-1, 1, (2,)), Discrete(2), Discrete(4)])
def test_every_agent_of_a_kind_of_action_has_a_habit_of_its_own(space, adder, collect):
    frames = collect(adder(space), 8, "--steps", 300)
    habits = []
    for episode in episodes_of(frames):
        vectors = column(episode, "action") if isinstance(space, Box) else np.eye(space.n)[column(episode, "action")]
        lagged = [(vectors[lag:] * vectors[:-lag]).sum(axis=1).mean() for lag in range(1, 13)]
        habits.append([*vectors.mean(axis=0), (vectors**2).sum(axis=1).mean(), *lagged])
    apart = np.abs(np.array(habits)[:, None] - np.array(habits)).max(axis=2)
    assert apart[~np.eye(8, dtype=bool)].min() > 0.1


def ends(frames):
    """How each episode ended; no other frame than its last one may say so."""
    found = []
    for episode in episodes_of(frames):
        told = [sorted(frame["meta"].keys() & {"terminal", "truncated"}) for frame in episode]
        assert not any(told[:-1])
        found += told[-1]
    return found


def test_the_last_frame_says_whether_the_environment_ended_the_task_or_only_the_recording_stopped(adder, collect):
    assert ends(collect("CartPole-v1", 16)) == ["terminal"] * 16
    mortal = adder(Discrete(2), lifetime=7)
    assert ends(collect(mortal, 1, "--steps", 7)) == ["terminal"]
    assert ends(collect(mortal, 1, "--steps", 6)) == ["truncated"]
    limited = collect("Pendulum-v1", 1, "--steps", 250)
    assert (len(limited), ends(limited)) == (200, ["truncated"])


def test_time_is_simulated_seconds_that_only_grow(collect):
    times = column(collect("Pendulum-v1", 9, "--steps", 20), "timestamp")
    np.testing.assert_allclose([later - earlier for earlier, later in pairwise(times)], 0.05, atol=1e-6)
    assert np.all(np.diff(column(collect("CartPole-v1", 9, "--steps", 5), "timestamp")) == 1)


def test_lines_are_compact_in_the_order_of_the_format_and_hold_no_minus_zero(adder, collect, tmp_path):
    frames = collect(adder(Box(-1, 1, (2,), np.float32)), 8, "--steps", 50, "--decimals", 1)
    text = (tmp_path / "log.jsonl").read_text()
    assert {tuple(frame) for frame in frames} == {("agent_id", "timestamp", "features", "action", "reward", "meta")}
    assert text.splitlines()[0] == json.dumps(frames[0], separators=(",", ":"))
    assert "-0.0" not in text
    assert {len(f"{value}".split(".")[1]) for frame in frames for value in frame["features"]} == {1}


def test_the_pipeline_reads_the_log_without_a_reject(collect, tmp_path):
    frames = collect("Pendulum-v1", 8, "--steps", 20)
    logs = read_logs([tmp_path], max_gap_s=1.0)
    assert logs.rejects == ()
    assert [episode.name for episode in logs.episodes] == [found[0]["meta"]["episode"] for found in episodes_of(frames)]
    assert (logs.feature_count, logs.action_space.kind) == (3, "continuous")
    assert all(episode.rewards is not None for episode in logs.episodes)


def test_env_kwargs_reach_the_environment(collect):
    light = collect("Pendulum-v1", 1, "--steps", 5, "--env-kwargs", '{"g": 0.0}')
    heavy = collect("Pendulum-v1", 1, "--steps", 5)
    assert light[0]["features"] == heavy[0]["features"]
    assert light[1]["features"] != heavy[1]["features"]


def test_a_request_that_cannot_be_met_is_refused_in_one_line_and_writes_nothing(capsys, tmp_path):
    for asked, message in [
        ("Nowhere-v0 --episodes 1", "cannot make Nowhere-v0: Environment `Nowhere` doesn't exist."),
        ("CartPole-v99 --episodes 1", "cannot make CartPole-v99: Environment version `v99` for environment"),
        ("CartPole-v1 --episodes 0", "--episodes must be at least 1, found 0"),
        ("CartPole-v1 --episodes 1 --seed -1", "--seed must be at least 0, found -1"),
        ("CartPole-v1 --episodes 1 --env-kwargs [1]", "argument --env-kwargs: expected a JSON object, found [1]"),
        ("CartPole-v1 --episodes 1 --env-kwargs {", "argument --env-kwargs: expected a JSON object, found {"),
        (
            "CartPole-v1 --episodes 1 --agents weak,lazy",
            "argument --agents: expected some of uniform, smooth, held, weak",
        ),
        ('CartPole-v1 --episodes 1 --env-kwargs {"wings":2}', "cannot make CartPole-v1: CartPoleEnv.__init__() got an"),
    ]:
        assert refusal(capsys, tmp_path, *asked.split()).startswith(message)


def test_a_space_that_a_log_cannot_hold_is_named(adder, capsys, tmp_path):
    observations, actions = "expected observations in a Box", "expected Discrete actions or a float Box"
    for spaces, message in [
        ({"observation_space": Discrete(4)}, f"{observations} of one dimension, found Discrete(4)"),
        ({"observation_space": Dict(x=ANY_STATE)}, f"{observations} of one dimension, found Dict("),
        ({"observation_space": Box(0, 1, (8, 8))}, f"{observations} of one dimension, found Box("),
        ({"action_space": MultiBinary(2)}, f"{actions} of one dimension, found MultiB"),
        ({"action_space": Box(0, 9, (2,), int)}, f"{actions} of one dimension, found B"),
        ({"action_space": Box(0, 1, (2, 2))}, f"{actions} of one dimension, found Box("),
    ]:
        env = adder(**{"action_space": Discrete(2)} | spaces)
        assert refusal(capsys, tmp_path, env, "--episodes", "1").startswith(f"Adder-v0: {message}")
        gymnasium.registry.pop(env)


def test_a_number_that_is_not_finite_stops_the_recording_and_leaves_no_file(adder, capsys, tmp_path):
    found = refusal(capsys, tmp_path, adder(Discrete(2), breaks_at=3), "--episodes", "1")
    assert found.startswith("expected finite features in uniform-0-0000, found [nan, ")


def test_a_recording_that_fails_keeps_the_old_file(adder, collect, tmp_path):
    collect("CartPole-v1", 1)
    before = (tmp_path / "log.jsonl").read_bytes()
    with pytest.raises(SystemExit):
        collect(adder(Discrete(2), breaks_at=3), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_without_gymnasium_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(SystemExit, match=r"^gymnasium is not installed: pip install -r requirements-dev\.txt$"):
        runpy.run_path(collect_gymnasium.__file__)
