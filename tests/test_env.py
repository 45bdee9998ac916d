"""A bundle as an environment: as Gymnasium and Stable-Baselines3 want it; what episodes earn, and when they end."""

import re

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as check_of_sb3

from factories import make_episodes, write_logs
from tiny_bundles import GRAPHS, graph, write_bundle
from worldmodel.client import WorldModel
from worldmodel.env import WorldModelEnv, WorldModelVectorEnv
from worldmodel.env.stable_baselines import WorldModelVecEnv

WIDE = {"feature_min": "[-1e6, -1e6]", "feature_max": "[1e6, 1e6]"}
ENDLESS = {"max_disagreement": np.inf, "steps": 6}


def model_in(folder, **said):
    return WorldModel.load(write_bundle(folder, **(WIDE | said)))


def episodes(count=3, length=14, **fields):
    rng, ends = np.random.default_rng(0), np.array([[-1.0], [1.0]]) * np.ones(3)
    found = [
        {
            "features": rng.normal(size=(length, 2)),
            "actions": np.concatenate([ends, rng.uniform(-1, 1, (length - 2, 3))]),
            "context": rng.normal(size=(length, 1)),
        }
        for _ in range(count)
    ]
    return [each | fields for each in found]


@pytest.fixture
def model(tmp_path):
    return model_in(tmp_path)


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_both_checkers_accept_it_without_a_warning(tmp_path, kind):
    model = model_in(tmp_path, action_kind=kind)
    logs = episodes(**({"actions": np.arange(14) % 3} if kind == "discrete" else {}))
    check_env(WorldModelEnv(model, logs, **ENDLESS))
    check_of_sb3(WorldModelEnv(model, logs, **ENDLESS), skip_render_check=False)
    made = gymnasium.make("worldmodel.env:WorldModel-v0", model=model, logs=logs, **ENDLESS)
    check_env(made.unwrapped)
    many = gymnasium.make_vec("worldmodel.env:WorldModel-v0", num_envs=5, model=model, logs=logs, **ENDLESS)
    assert isinstance(many, WorldModelVectorEnv)
    assert many.observation_space.shape == (5, 2)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_many_episodes_at_once_are_gymnasiums_own_vector_of_single_ones(model, mode):
    """The same chances, observations, rewards, endings and infos, through resets of all three kinds."""
    logs, count = episodes(), 4
    ours = WorldModelVectorEnv(model, logs, count, autoreset_mode=mode, steps=3)
    oracle = SyncVectorEnv([lambda: WorldModelEnv(model, logs, steps=3)] * count, autoreset_mode=mode)
    told = [envs.reset(seed=7) for envs in (ours, oracle)]
    rng, ended = np.random.default_rng(1), 0
    for _ in range(12):
        compare(*told)
        actions = rng.uniform(-1.5, 1.5, (count, 3)).astype(np.float32)
        told = [envs.step(actions) for envs in (ours, oracle)]
        compare(*told)
        done = told[0][2] | told[0][3]
        ended += done.sum()
        if mode == AutoresetMode.DISABLED and done.any():
            told = [envs.reset(options={"reset_mask": done.copy()}) for envs in (ours, oracle)]
    assert ended > count


def compare(ours, oracle):
    if isinstance(oracle, dict):
        assert ours.keys() == oracle.keys()
        for key in oracle:
            compare(ours[key], oracle[key])
    elif isinstance(oracle, tuple):
        for one, other in zip(ours, oracle, strict=True):
            compare(one, other)
    else:
        assert ours.dtype == oracle.dtype, (ours, oracle)
        for one, other in zip(ours, oracle, strict=True):
            np.testing.assert_allclose(*((1, 1) if one is other is None else (one, other)), rtol=1e-5)


def test_a_step_is_the_clients_from_the_logged_history(model):
    """With the context that the log has for the frames behind the start."""
    logs = episodes(1)
    env = WorldModelEnv(model, logs, steps=12, max_disagreement=np.inf)
    seen, _ = env.reset(seed=3)
    start = int(np.flatnonzero((logs[0]["features"].astype(np.float32) == seen).all(axis=1))[0])
    begin = max(0, start - 2)
    past = logs[0]["actions"][begin:start] if start else None
    met = logs[0]["context"][begin : max(start, 1)]
    z = model.encode(logs[0]["features"][begin : start + 1], past, met)
    for frame in range(start, start + 3):
        action = env.action_space.sample()
        z, expected = model.step(z, action, logs[0]["context"][frame])
        seen, reward, _, truncated, info = env.step(action)
        assert (seen == expected.features).all()
        assert (reward, truncated, info) == (expected.reward, False, {"disagreement": expected.disagreement})


def test_endings_are_as_frequent_as_predicted_and_a_frame_that_ended_a_task_begins_none(model):
    logs = episodes(terminal=True, length=3)
    envs = WorldModelVectorEnv(model, logs, 4000, autoreset_mode="Disabled", steps=2)
    assert envs.rollouts.starts.frames[:, 1].max() == 1
    envs.reset(seed=0)
    pushed = np.tile(np.array([[-0.5, -0.25, -0.25]], np.float32), (4000, 1))
    first, second = (envs.step(pushed)[2] for _ in range(2))
    probability = 1 / (1 + np.e)  # sigmoid(-1), the sum of the action
    assert abs(first.mean() - probability) < 0.02
    assert abs(second[~first].mean() - probability) < 0.02


def test_an_episode_is_cut_after_its_steps_where_the_model_knows_nothing_and_where_the_context_ends(tmp_path, model):
    rest, push = np.zeros(3, np.float32), np.full(3, 0.4, np.float32)

    def frames(action, logs=None, model=model, **settings):
        env = WorldModelEnv(model, logs or episodes(terminal=False), **settings)
        env.reset(seed=0)
        return next(k for k in range(1, 99) if env.step(action)[3])

    assert frames(rest, steps=5) == 5
    assert (frames(push, steps=5, max_disagreement=1.1), frames(push, steps=5, max_disagreement=1.3)) == (1, 5)
    summed = [np.abs(each["actions"].sum(axis=1))[3:13] for each in episodes()]  # as predicted 4 frames from each start
    usual = WorldModelEnv(model, episodes(), steps=5).rollouts.rules.max_disagreement
    assert usual == pytest.approx(np.quantile(summed, 0.9))
    assert frames(rest, episodes(length=4), steps=9) == 4
    narrow = model_in(tmp_path, feature_min="[-1, -1]", feature_max="[1, 1]")
    env = WorldModelEnv(narrow, episodes(), **ENDLESS)
    env.reset(seed=0)
    seen, _, _, truncated, _ = [env.step(rest) for _ in range(5)][-1]  # z doubles with each of its steps
    assert truncated
    assert seen in env.observation_space


def test_a_reward_of_the_users_is_paid_for_what_an_action_leads_to_and_doubt_costs(model):
    given = []

    def reward(features, actions):
        given.append((features, actions))
        return features[:, 0] + actions[:, 1]

    action, paid = np.array([0.25, 0.5, 0.0], np.float32), []
    for caution in (0.0, 2.0):
        env = WorldModelEnv(model, episodes(), reward=reward, caution=caution, **ENDLESS)
        env.reset(seed=0)
        seen, earned, *_ = env.step(action)
        paid.append(earned)
        assert (given[-1][0] == seen).all()
        assert (given[-1][1] == action).all()
    assert paid[0] == pytest.approx(seen[0] + 0.5)
    assert paid[0] - paid[1] == pytest.approx(2 * 0.75)


def test_noise_is_as_wide_as_predicted_and_leaves_what_follows_alone(model):
    logs = episodes(1, length=2)
    both = [
        WorldModelVectorEnv(model, logs, 3000, noise=noise, begin="beginning", **ENDLESS) for noise in (True, False)
    ]
    for envs in both:
        envs.reset(seed=0)
    rest = np.zeros((3000, 3), np.float32)
    noisy, clean = (envs.step(rest)[0] for envs in both)
    std = np.exp(logs[0]["context"][0, 0])
    inner = np.quantile(np.abs(noisy - clean), 0.9)
    assert inner == pytest.approx(model.half_width(0.9) * std, rel=0.1)
    assert (both[0].rollouts.z == both[1].rollouts.z).all()


def test_starts_are_the_observed_episodes_of_a_log(tmp_path, model):
    known = np.zeros((12, 1), np.float32)
    made = make_episodes(2, features=2, actions=3, context=known)
    dreamed = make_episodes(1, features=2, actions=3, context=known, source="dream")
    folder = write_logs(tmp_path, [*made, *dreamed])
    starts = WorldModelEnv(model, folder, steps=4).rollouts.starts
    read = [each.features for each in starts.episodes]
    assert all((one == other.features).all() for one, other in zip(read, made, strict=True))
    assert sorted(map(tuple, starts.frames.tolist())) == [(episode, frame) for episode in (0, 1) for frame in range(9)]


def test_stable_baselines3_learns_in_it_and_is_told_how_episodes_end(model):
    envs = WorldModelVecEnv(model, episodes(), 4, steps=2)
    learned = PPO("MlpPolicy", envs, n_steps=8, batch_size=16, n_epochs=1, seed=0, device="cpu").learn(32)
    assert learned.num_timesteps == 32
    envs.seed(5)
    before = envs.reset()
    ends = [info for _ in range(6) for info in envs.step(np.zeros((4, 3), np.float32))[3] if info]
    assert {info["TimeLimit.truncated"] for info in ends} == {True, False}
    assert all(info["terminal_observation"].shape == (2,) for info in ends)
    envs.seed(5)
    assert (envs.reset() == before).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features": np.zeros((14, 5))}, r"episode 0 of the logs: features has shape \[1, 14, 5\], expected"),
        ({"actions": None}, "episode 0 of the logs: it has no actions"),
        ({"actions": np.zeros((14, 2))}, r"actions are \[14, 2\], expected \[14, 3\]"),
        ({"context": None}, "it has no context"),
        ({"features": np.full((14, 2), np.nan)}, "none of 3 episodes has a frame to begin at"),
    ],
)
def test_logs_that_do_not_fit_are_refused(model, changed, message):
    with pytest.raises(ValueError, match=message):
        WorldModelEnv(model, episodes(**changed))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"begin": "end"}, "begin='end'"),
        ({"low": 2.0}, "expected finite bounds in order"),
        ({"high": np.inf}, "expected finite bounds in order"),
        ({"reward": lambda features, actions: 1.0}, r"reward returned \[\], expected \[1\]"),
    ],
)
def test_settings_that_make_no_sense_are_refused(model, settings, message):
    def use():
        env = WorldModelEnv(model, episodes(), **settings)
        env.reset(seed=0)
        env.step(np.zeros(3))

    with pytest.raises(ValueError, match=message):
        use()


def test_what_a_bundle_cannot_do_is_said(tmp_path):
    def silence(graphs):
        for name in ("predictor", "step"):
            text = re.sub(r"float\[batch(, K)?\] reward,", "", GRAPHS[name])
            graphs[name] = graph(name, text)

    silent = WorldModel.load(write_bundle(tmp_path, silence))
    with pytest.raises(ValueError, match="predicts no reward"):
        WorldModelEnv(silent, episodes())
    stepless = WorldModel.load(
        write_bundle(tmp_path / "stepless", texts={k: v for k, v in GRAPHS.items() if k != "step"})
    )
    with pytest.raises(ValueError, match=r"has no step\.onnx, which an environment goes on by"):
        WorldModelEnv(stepless, episodes())
    with pytest.raises(ValueError, match=r"low=-1, high=None: the actions .* are discrete"):
        WorldModelEnv(model_in(tmp_path, action_kind="discrete"), episodes(), low=-1)
    discrete = WorldModelEnv(model_in(tmp_path, action_kind="discrete"), episodes())
    discrete.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions are int64 3..3, expected 0..2"):
        discrete.step(3)
    with pytest.raises(gymnasium.error.ResetNeeded):
        WorldModelVectorEnv(silent, episodes(), 2, reward=lambda features, actions: 0 * features[:, 0]).step(0)
