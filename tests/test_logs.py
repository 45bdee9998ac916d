import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import make_episodes, write_logs
from lines import GAP, frame, log, named, read, times
from worldmodel.episodes.schema import ActionSpace
from worldmodel.logs.reader import read_logs
from worldmodel.logs.writing import write_jsonl


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    kind=st.sampled_from(["none", "discrete", "continuous"]),
    rewards=st.booleans(),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    dreams=st.integers(0, 2),
    split=st.sampled_from([None, "train", "test"]),
    suffix=st.sampled_from(["jsonl", "jsonl.gz"]),
    seed=st.integers(0, 99),
)
def test_what_is_written_is_read_back(tmp_path_factory, kind, rewards, lengths, dreams, split, suffix, seed):
    folder = tmp_path_factory.mktemp("logs")
    common = {"kind": kind, "rewards": rewards, "seed": seed}
    episodes = [
        make_episodes(
            1, length, name=f"e{index // 2}", segment=index % 2, split=split, terminal=index % 3 == 0, **common
        )[0]
        for index, length in enumerate(lengths)
    ]
    start = {"agent_id": "agent-0", "episode": "e0"}
    episodes += make_episodes(dreams, 3, source="dream", provenance={"start": start, "teacher": "t"}, **common)
    logs = read(write_logs(folder, episodes, f"log.{suffix}"))
    assert [episode.narrowed() for episode in logs.episodes] == episodes
    assert {episode.features.dtype for episode in logs.episodes} == {np.dtype(np.float64)}
    assert not logs.rejects
    assert (logs.feature_count, logs.context_count) == (2, 0)


def test_writing_twice_gives_the_same_bytes_and_a_gzip_holds_neither_time_nor_name(tmp_path):
    episodes = make_episodes(3)
    for name in ("log.jsonl", "log.jsonl.gz"):
        one, two = (write_logs(tmp_path / name / side, episodes, name) / name for side in "ab")
        assert one.read_bytes() == two.read_bytes()
        assert [path.name for path in one.parent.iterdir()] == [name]
    assert one.read_bytes()[3:8] == bytes(5)  # flags (no name), then four bytes of time


def test_a_written_line_is_canonical(tmp_path):
    episode = make_episodes(1, 1, features=1, actions=1, agents=1)[0]
    episode = replace(
        episode,
        timestamps=np.array([1.5]),
        features=np.array([[0.1]], np.float32),
        actions=np.array([[1]], np.float32),
        rewards=np.array([0.2], np.float32),
        split="test",
    )
    write_jsonl(tmp_path / "log.jsonl", [episode])
    assert (tmp_path / "log.jsonl").read_text() == (
        '{"agent_id":"agent-0","timestamp":1.5,"features":[0.1],"action":[1.0],"reward":0.2,'
        '"meta":{"episode":"observed-0","episode_segment":0,"source":"observed","split":"test"}}\n'
    )


def test_a_name_that_returns_in_another_file_is_another_piece_of_the_same_episode(tmp_path):
    log(tmp_path, named(5, "x"), name="1.jsonl")
    logs = read(log(tmp_path, named(2, "x"), name="2.jsonl"))
    assert times(logs) == [("a", "x", 1, [5]), ("a", "x", 0, [2])]
    assert len({episode.identity for episode in logs.episodes}) == 1


def test_files_are_read_in_order_of_their_paths_and_gzip_is_transparent(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "notes.txt").write_text("no log")
    log(tmp_path, frame(1, "late"), name="z.jsonl")
    packed = gzip.compress(json.dumps(frame(2, "early")).encode())
    (tmp_path / "sub" / "a.jsonl.gz").write_bytes(packed)
    assert [episode.agent_id for episode in read(tmp_path).episodes] == ["early", "late"]


def test_the_action_space_is_that_of_the_rows_of_all_files(tmp_path):
    for fields, space in (
        ({}, ActionSpace("none", 0)),
        ({"action": 4}, ActionSpace("discrete", 5)),
        ({"action": [0.5, 1, 0]}, ActionSpace("continuous", 3)),
    ):
        assert read(log(tmp_path, frame(0, **fields), frame(1, **fields))).action_space == space
    log(tmp_path, frame(0, action=1))
    assert read(log(tmp_path, frame(0, action=6), name="2.jsonl")).action_space == ActionSpace("discrete", 7)


def test_dreams_cannot_outvote_the_observed_rows(tmp_path):
    stale = [named(t, "d", source="dream") | {"features": [1]} for t in range(5)]
    logs = read(log(tmp_path, *stale, frame(0)))
    assert logs.feature_count == 2
    assert len(logs.rejects) == 5


def test_missing_folders_and_files_and_rows_are_clear(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder; expected one with"):
        read_logs([tmp_path / "nowhere"], GAP)
    with pytest.raises(ValueError, match="holds no log file; expected one or more that end in"):
        read_logs([tmp_path], GAP)
    with pytest.raises(ValueError, match="1 log files without a single row"):
        read_logs([log(tmp_path, "", "  ")], GAP)


def rollout(name, begin, frames=4):
    meta = {"episode": name} if name else {}
    rows = [{"agent_id": "a", "timestamp": begin + t, "features": [t], "meta": meta} for t in range(frames)]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("name", ["0", None])
def test_rollouts_of_one_name_are_told_apart_by_their_clock_and_later_ones_change_no_name(tmp_path, name):
    (tmp_path / "a.jsonl").write_text(rollout(name, 0.0) + rollout(name, 0.0))
    (tmp_path / "b.jsonl").write_text(rollout(name, 0.0))
    stem = name or "@0.0"
    assert not read_logs([tmp_path], 60.0).rejects
    found = [(each.name, each.segment, each.length) for each in read_logs([tmp_path], 60.0).episodes]
    assert found == [(stem, 0, 4), (f"{stem}~2", 0, 4), (f"{stem}~3", 0, 4)]
    (tmp_path / "0.jsonl").write_text(rollout(name, 9e5))  # a later day: its file comes first
    again = {(each.name, each.segment, each.length) for each in read_logs([tmp_path], 60.0).episodes}
    assert again > set(found)


def test_a_log_that_goes_on_in_another_file_is_one_rollout_and_a_frame_out_of_order_is_none(tmp_path):
    (tmp_path / "a.jsonl").write_text(rollout("0", 0.0))
    (tmp_path / "b.jsonl").write_text(rollout("0", 4.0))
    (tmp_path / "c.jsonl").write_text(rollout("0", 100.0) + rollout("0", 101.5, 1))
    logs = read_logs([tmp_path], 60.0)
    assert [(each.name, each.segment) for each in logs.episodes] == [("0", 0), ("0", 1), ("0~2", 0)]
    assert [(each.file, each.line) for each in logs.rejects] == [("c.jsonl", 5)]
