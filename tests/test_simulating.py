import sys
from dataclasses import FrozenInstanceError, replace
from itertools import count

import numpy as np
import pytest

from factories import make_dreams, make_episodes, make_intake, space_of, write_logs
from worldmodel.dreams.simulating import load, simulate_dreams, simulator_files
from worldmodel.logs.reader import read_logs
from worldmodel.logs.split import assign

HISTORY, LENGTH = 3, 4
HEADER = """
import numpy as np
from worldmodel.trajectory import Trajectory

"""
REPLAY = """
def run(start, rng):
    actions = np.concatenate([start.actions, start.planned_actions])
    drift = rng.normal(size=(len(actions), start.features.shape[1]))
    drift[:len(start.features)] = start.features
    rewards = None if start.rewards is None else np.arange(len(actions))
    return Trajectory(drift, actions, rewards)
"""


@pytest.fixture
def simulate(tmp_path, monkeypatch):
    """Dreams of the function `run` of a module with this body, in a project folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    numbers = count()

    def call(body, train=None, **fields):
        module = call.module = f"{tmp_path.name}_{next(numbers)}".replace("-", "_")
        (tmp_path / f"{module}.py").write_text(HEADER + body)
        train = make_episodes(6, 12) if train is None else train
        settings = make_dreams(source="simulator", simulator=f"{module}:run", **fields)
        return simulate_dreams(train, space_of(train), settings, HISTORY)

    return call


def refusal(simulate, body, **fields):
    with pytest.raises(ValueError, match=r".") as caught:
        simulate(body, **fields)
    return str(caught.value).replace(simulate.module, "mine")


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
@pytest.mark.parametrize("rewards", [True, False])
def test_dreams_are_valid_episodes_of_the_same_kind(simulate, kind, rewards):
    train = make_episodes(6, 12, kind=kind, rewards=rewards)
    found = simulate(REPLAY, train)
    assert [each.name for each in found] == [f"dream-{number:06d}" for number in range(6)]
    for each in found:
        assert (each.source, each.length) == ("dream", HISTORY + LENGTH)
        assert (each.rewards is None) == (not rewards)
        assert space_of([each]).kind == kind


def test_a_task_that_ends_in_the_simulator_ends_the_dream_where_that_frame_is_kept(simulate):
    for extra, ended in ((0, True), (2, False)):  # frames beyond the length of dreams are left out
        body = "def run(start, rng):\n    return Trajectory(np.tile(start.features[-1], "
        body += f"({HISTORY + LENGTH + extra}, 1)), None, None, terminal=True)"
        train = make_episodes(4, 12, kind="none", actions=0, rewards=False)
        assert {each.terminal for each in simulate(body, train)} == {ended}


def test_logs_without_actions_have_none_to_follow(simulate):
    body = "def run(start, rng):\n    assert start.actions is start.planned_actions is None\n"
    body += "    return Trajectory(rng.normal(size=(9, 2)), None, np.zeros(9))"
    assert {each.actions for each in simulate(body, make_episodes(4, 12, kind="none", actions=0))} == {None}


def test_a_start_is_what_was_logged_and_planned_actions_begin_at_its_last_frame(simulate):
    train = make_episodes(6, 12)
    for each in simulate(REPLAY, train, episodes=50):
        start = each.provenance["start"]
        (source,) = [e for e in train if (e.agent_id, e.name) == (start["agent_id"], start["episode"])]
        begin = start["frame"]
        np.testing.assert_array_equal(each.features[:HISTORY], source.features[begin : begin + HISTORY])
        np.testing.assert_array_equal(each.actions, source.actions[begin : begin + HISTORY + LENGTH])
        np.testing.assert_array_equal(each.timestamps, source.timestamps[begin : begin + HISTORY + LENGTH])


def test_a_start_knows_the_context_ahead_and_the_dream_has_it_and_ends_with_it(simulate):
    train = [
        replace(each, context=np.arange(9, dtype=np.float32)[:, None] + 100 * n)
        for n, each in enumerate(make_episodes(3, 9))
    ]
    body = "def run(start, rng):\n    ahead = np.repeat(start.context[-1:], 20, axis=0)\n"
    body += "    return Trajectory(np.tile(ahead, 2), np.zeros((20, 3)), np.zeros(20))"
    for length, frames in ((4, HISTORY + 4), (50, 9)):
        for each in simulate(body, train, length=length, episodes=30):
            begin = each.provenance["start"]["frame"]
            source = train[int(each.provenance["start"]["episode"].removeprefix("observed-"))]
            np.testing.assert_array_equal(each.context, source.context[begin : begin + frames])
            assert (each.features == each.context[-1]).all()  # nothing beyond was shown to the simulator


def test_a_dream_may_miss_what_its_start_misses_alone(simulate):
    holes = np.zeros((12, 2), bool)
    holes[::2, 1] = True
    train = [replace(each, features=np.where(holes, np.nan, each.features)) for each in make_episodes(6, 12)]
    for each in simulate(REPLAY, train):
        begin = each.provenance["start"]["frame"]
        np.testing.assert_array_equal(
            np.isnan(each.features), np.r_[holes[begin : begin + HISTORY], np.zeros((LENGTH, 2), bool)]
        )
    assert refusal(simulate, REPLAY.replace("(drift,", "(np.nan * drift,"), train=train).endswith(
        "features: frame 0 holds NaN or infinity, expected finite float32 numbers, or NaN where the start has it"
    )


def test_wide_logs_have_wide_dreams(simulate):
    far = [replace(each, features=each.features.astype(np.float64) + 2.0**40) for each in make_episodes(6, 12)]
    for each in simulate(REPLAY, far):
        begin = each.provenance["start"]["frame"]
        source = far[int(each.provenance["start"]["episode"].removeprefix("observed-"))]
        np.testing.assert_array_equal(each.features[:HISTORY], source.features[begin : begin + HISTORY])
        assert each.features.dtype == np.float64


def test_every_start_with_room_is_drawn(simulate):
    found = simulate(REPLAY, make_episodes(2, 9), episodes=200)
    starts = {(each.provenance["start"]["episode"], each.provenance["start"]["frame"]) for each in found}
    assert starts == {(f"observed-{index}", frame) for index in range(2) for frame in range(9 - HISTORY - LENGTH + 1)}


def test_an_episode_that_is_shorter_than_a_dream_gives_the_actions_that_it_has(simulate):
    found = simulate(REPLAY, [*make_episodes(2, HISTORY + 1), *make_episodes(1, HISTORY)])
    assert {each.length for each in found} == {HISTORY + 1}


def test_episodes_that_are_all_too_short_are_an_error(simulate):
    expected = r"more than train\.history = 3 frames, the longest of 2 has 3"
    with pytest.raises(ValueError, match=expected):
        simulate(REPLAY, make_episodes(2, HISTORY))


def test_the_seed_decides_and_more_dreams_keep_the_first_ones(simulate):
    few, many, other = (simulate(REPLAY, episodes=count, seed=seed) for count, seed in ((3, 7), (9, 7), (3, 8)))
    for one, same, another in zip(few, many[:3], other, strict=True):
        np.testing.assert_array_equal(one.features, same.features)
        assert not np.array_equal(one.features, another.features)


def test_provenance_names_simulator_seed_and_start(simulate):
    (found, *_) = simulate(REPLAY, seed=11)
    assert set(found.provenance) == {"simulator", "seed", "start"}
    assert found.provenance["simulator"] == f"{simulate.module}:run"
    assert found.provenance["seed"] == 11


def test_dreams_are_written_read_and_taken_in_beside_their_logs(simulate, tmp_path):
    train = make_episodes(30, 12)
    found = simulate(REPLAY.replace(", rewards)", ", rewards, np.linspace(0, 1, len(actions)))"), train)
    again = read_logs([write_logs(tmp_path / "dreams", found)], 60.0)
    assert sorted((each.narrowed() for each in again.episodes), key=lambda each: each.name) == found
    assert not again.rejects
    intake = make_intake(val_share=0.0, test_share=0.0)
    assert assign([*train, *again.episodes], intake)[30:] == ["train"] * len(found)


def test_a_start_cannot_be_changed(simulate):
    write = "def run(start, rng):\n    start.features[0] = 1"
    assert "ValueError: assignment destination is read-only (at mine.py:6)" in refusal(simulate, write)
    another = "def run(start, rng):\n    start.features = 1"
    assert FrozenInstanceError.__name__ in refusal(simulate, another)


def test_a_module_that_is_no_file_of_the_project_is_refused(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "far_away.py").write_text("def run(start, rng): ...")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.syspath_prepend(elsewhere)
    for name in ("gone_away", "far_away", "json", "numpy.linalg"):
        with pytest.raises(ValueError, match=rf"^dreams\.simulator {name}:run: found neither ") as caught:
            load(f"{name}:run")
        assert str(caught.value).endswith("expected a file of the project, which may import what is installed")
    (tmp_path / "project" / "far_away.py").write_text("def run(start, rng): ...")
    with pytest.raises(
        ValueError, match=r"far_away came from .*elsewhere/far_away\.py, expected it from .*project; take"
    ):
        load("far_away:run")


@pytest.mark.parametrize("place", ["project", "elsewhere"])
def test_what_it_imports_without_being_hashed_is_refused(tmp_path, monkeypatch, simulate, place):
    folder = tmp_path / place if place == "elsewhere" else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / f"helper_{place}.py").write_text("step = 1")
    if place == "elsewhere":
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.syspath_prepend(folder)
    found = refusal(
        simulate,
        REPLAY.replace("    drift =", f"    __import__('importlib').import_module('helper_{place}')\n    drift =", 1),
    )
    assert f"it imported {folder}/helper_{place}.py, where an edit would rerun nothing; put it into" in found


def test_a_package_its_neighbours_and_the_packages_around_it_count(tmp_path, monkeypatch):
    sources = {
        "around_me/__init__.py": "import beside_me",
        "around_me/mine/__init__.py": "from .parts import step\nfrom ..physics import gravity\n\ndef run(*_): ...",
        "around_me/mine/parts.py": "step = 1",
        "around_me/mine/unused.py": "",
        "around_me/physics.py": "gravity = 9.81",
        "beside_me.py": "",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    assert load("around_me.mine:run").__name__ == "run"
    files = {path.as_posix() for path in simulator_files("around_me.mine:run")}
    assert files == sources.keys() - {"around_me/mine/unused.py"}


NO_FUNCTION = "expected a function of (start, rng)"
FAULTS = [  # what stands in the module; how the refusal goes on after the simulator's name, and ends
    ("import no_such_library", ": cannot import mine from ", "No module named 'no_such_library' (at mine.py:5)"),
    ("raise SystemExit('install it')", ": cannot import mine from ", "SystemExit: install it (at mine.py:5)"),
    ("other = 1", ": found no run in mine, ", NO_FUNCTION),
    ("run = 3", ": found int, ", NO_FUNCTION),
    ("def run(start, rng):\n    return {}['x']", ", dream 0: ", "KeyError: 'x' (at mine.py:6)"),
    ("def run(start, rng):\n    return np.zeros(2) @ np.zeros(3)", ", dream 0: ", "(at mine.py:6)"),
    (
        "def run(start, rng):\n    return deeper()\ndef deeper():\n    return 1 / 0",
        ", dream 0: ",
        "ZeroDivisionError: division by zero (at mine.py:8)",
    ),
    (
        "import json\ndef run(start, rng):\n    return json.loads('?')",
        ", dream 0: ",
        "JSONDecodeError: Expecting value: line 1 column 1 (char 0) (at mine.py:7)",
    ),
    ("def run(start):\n    pass", ", dream 0: ", "run() takes 1 positional argument but 2 were given"),
]


def test_what_is_wrong_with_a_simulator_is_said_with_its_line(simulate):
    for body, begin, end in FAULTS:
        found = refusal(simulate, body)
        assert found.startswith(f"dreams.simulator mine:run{begin}")
        assert found.endswith(end)


def test_a_file_that_is_no_python_is_named_with_its_line(simulate):
    assert refusal(simulate, "def run(:") == "mine.py:5: invalid syntax"
    assert refusal(simulate, "run = " + "-" * 10**5 + "1").startswith("mine.py: cannot be read as Python (")
    assert refusal(simulate, "run = '\0'").startswith("mine.py")


def test_the_number_of_the_dream_that_failed_is_named(simulate):
    body = "runs = []\n" + REPLAY.replace(
        "return Trajectory(drift", "runs.append(1)\n    return Trajectory(drift[len(runs) // 3:]"
    )
    assert refusal(simulate, body) == (
        "dreams.simulator mine:run, dream 2: actions: found float32 [7, 3], expected numbers [6, 3]"
    )


def test_a_dotted_module_is_found_below_the_folder_that_it_runs_in(tmp_path, monkeypatch):
    (tmp_path / "labs_of_mine").mkdir()
    (tmp_path / "labs_of_mine" / "physics.py").write_text("def run(start, rng): ...")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    assert load("labs_of_mine.physics:run").__name__ == "run"
