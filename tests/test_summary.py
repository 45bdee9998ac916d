from dataclasses import replace
from tempfile import TemporaryFile

import numpy as np

from factories import make_episodes
from lines import frame, log, read
from worldmodel.core.params import read as read_params
from worldmodel.core.project import default_params
from worldmodel.episodes.columns import NAMELESS, Column, Columns
from worldmodel.linting.lint import Collector
from worldmodel.linting.remarks import Limits
from worldmodel.linting.summary import Summary
from worldmodel.logs.files import LogFile


def lines(episodes, files=(), columns=NAMELESS):
    with TemporaryFile() as stream:
        seen = Collector(Limits(read_params(default_params()).prepare, 8, 16), columns, stream)
        for episode in episodes:
            seen.episode("log.jsonl", 1, episode, 0)
        seen.end()
        return Summary(seen.facts, columns).lines(files)


def fact(found, name):
    return next(line.split(maxsplit=1)[1] for line in found if line.startswith(name))


def test_ranges_are_those_of_all_frames():
    episodes = make_episodes(5, 7, features=3, actions=2)
    cells = [line.split() for line in lines(episodes) if line.startswith(("feature", "action ", "reward "))]
    features = np.concatenate([episode.features for episode in episodes])
    rewards = np.concatenate([episode.rewards for episode in episodes])
    for index in range(3):
        column = features[:, index]
        assert [float(cell) for cell in cells[index][2:5]] == [
            float(f"{value:.5g}") for value in (column.min(), column.mean(dtype=np.float64), column.max())
        ]
    assert float(cells[-1][3]) == float(f"{rewards.max():.5g}")
    assert [" ".join(row[:-4]) for row in cells] == [
        *(f"feature {index}" for index in range(3)),
        *(f"action {index}" for index in range(2)),
        "reward",
    ]


def test_the_share_of_steps_that_change_nothing_stands_beside_each_number(tmp_path):
    values = [1, 1, 1, 2, 2]
    logs = read(log(tmp_path, *[frame(t, features=[value, 7]) for t, value in enumerate(values)]))
    assert [line.split()[-1] for line in lines(logs.episodes)[-2:]] == ["75.0%", "always"]


def test_what_is_missing_and_what_columns_are_called_is_told():
    x = np.array([[np.nan, 1], [4.0, 2], [6.0, 3], [np.nan, 3]])
    context = np.arange(4, dtype=np.float32)[:, None]
    (episode,) = make_episodes(1, 4, features=2, kind="none", rewards=False)
    columns = Columns((Column("speed", "m/s"), Column("", "", "category")), (), (Column("hour"),))
    found = lines([replace(episode, features=x, context=context, truncated=True)], columns=columns)
    rows = [line.split() for line in found[-4:]]
    assert rows == [
        ["min", "mean", "max", "unchanged", "missing"],
        ["feature", "0", "speed", "m/s", "4", "5", "6", "0.0%", "50.0%"],
        ["feature", "1", "1", "2.25", "3", "33.3%"],
        ["context", "hour", "0", "1.5", "3", "0.0%"],
    ]
    assert fact(found, "episodes") == "1, 4 frames each, 1 broken off"


def test_files_frames_episodes_and_agents_are_counted(tmp_path):
    bad = frame(2, features=["x", 1])
    over = frame(4, meta={"terminal": True})
    logs = read(log(tmp_path, frame(0), frame(1), bad, frame(3), over, frame(0, "b")))
    found = lines(logs.episodes, [LogFile("a", tmp_path, 3 * 2**20), LogFile("b", tmp_path)])
    assert fact(found, "files") == "2, 3.0 MiB, 1 of them empty"
    assert fact(found, "frames") == "5"
    assert fact(found, "episodes") == "3, 1 to 2 frames, median 2, 1 ended for good, 1 pieces behind a hole"
    assert fact(found, "agents") == "2, frames of each: a 4, b 1"


def test_gaps_are_steps_much_longer_than_usual(tmp_path):
    found = lines(read(log(tmp_path, *[frame(t) for t in (0, 1, 2, 3, 14, 15)])).episodes)
    assert fact(found, "steps") == "1 s from frame to frame (median; by episode 1 to 1 s)"
    assert fact(found, "gaps") == "1 steps within episodes are longer than 1.5 of their median steps, the longest 11 s"


def test_kinds_of_action_are_told(tmp_path):
    assert fact(lines(make_episodes(1, 4, kind="none")), "actions") == "none"
    assert fact(lines(make_episodes(1, 4, actions=3)), "actions") == "vectors of 3 numbers"
    taken = read(log(tmp_path, *[frame(t, action=action) for t, action in enumerate([0, 3, 0, 0])])).episodes
    assert fact(lines(taken), "actions") == "integers from 0 to 3: 0 75.0%, 3 25.0%"


def test_times_at_the_ends_of_float64_are_no_reason_to_fail(tmp_path):
    logs = log(tmp_path, {"agent_id": "a", "episode": [frame(t, features=[1]) for t in (-1.7e308, 1.7e308)]})
    found = lines(read(logs).episodes)
    assert fact(found, "steps") == "none, every episode has one frame"  # a hole that is cut at
