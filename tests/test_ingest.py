from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import make_episodes, make_intake, write_logs
from lines import frame, log, named
from worldmodel.episodes.columns import NAMELESS, Column
from worldmodel.episodes.schema import Episode
from worldmodel.episodes.temporary_store import EpisodeStore
from worldmodel.logs.cutting import pieces
from worldmodel.logs.ingest import ingest

ALL_TRAIN = {"val_share": 0.0, "test_share": 0.0}


def ingested(folder, **fields):
    return ingest([folder], make_intake(**(ALL_TRAIN | fields)), Episode.whole)


def walk(times, **fields):
    """An observed episode at these times."""
    times = np.asarray(times, np.float64)
    fields = {"agent_id": "a", "name": "e"} | fields
    return Episode(**{"timestamps": times, "features": times[:, None] % 7 + 0.5, **fields})


def places(episodes):
    return [(each.agent_id, each.name, each.segment, each.timestamps.tolist()) for each in episodes]


gaps = st.lists(st.sampled_from([0.5, 1.0, 3.0, 10.0, 100.0]), min_size=1, max_size=40)


@given(gaps, st.sampled_from([2.0, 30.0]), st.sampled_from([None, 1.0, 2.5]), st.sampled_from([None, 20.0]))
def test_no_episode_has_a_hole_and_no_frame_is_lost(steps, max_gap_s, resample_s, max_length_s):
    times = np.cumsum([0.0, *steps])
    intake = make_intake(max_gap_s=max_gap_s, resample_s=resample_s, max_length_s=max_length_s)
    found = pieces([walk(times)], intake, NAMELESS, Episode.whole)
    assert len({(each.name, each.segment) for each in found}) == len(found)
    for each in found:
        logged = times[(times >= each.timestamps[0]) & (times <= each.timestamps[-1])]
        assert (np.diff(logged) <= max_gap_s).all()
        assert max_length_s is None or each.timestamps[-1] - each.timestamps[0] < max_length_s
    if resample_s is None:
        assert np.concatenate([each.timestamps for each in found]).tolist() == times.tolist()
        assert max_length_s or {each.name for each in found} == {"e"}


def test_a_hole_in_a_named_episode_cuts_it_as_in_one_without_a_name(tmp_path):
    times = [0, 1, 2, 63, 64, 126, 127]
    found = ingested(log(tmp_path, *[named(t, "e") for t in times], *[frame(t, "b") for t in times]))
    assert places(found.episodes)[:3] == [("a", "e", 0, [0, 1, 2]), ("a", "e", 1, [63, 64]), ("a", "e", 2, [126, 127])]
    assert [times for *_, times in places(found.episodes)[3:]] == [[0, 1, 2], [63, 64], [126, 127]]


def test_a_long_recording_becomes_episodes_with_draws_of_their_own():
    long = walk(np.arange(100) * 0.1, terminal=True, truncated=True)
    found = pieces([long], make_intake(max_length_s=3.0), NAMELESS, Episode.whole)
    assert [(each.name, each.length) for each in found] == [("e#0", 30), ("e#1", 30), ("e#2", 30), ("e#3", 10)]
    assert [(each.terminal, each.truncated) for each in found] == [(False, False)] * 3 + [(True, True)]
    assert pieces([long], make_intake(max_length_s=10.0), NAMELESS, Episode.whole) == [long]


def test_new_logs_move_no_piece_of_old_ones(tmp_path):
    def drawn(count):
        folder = write_logs(tmp_path / str(count), [walk(np.arange(200.0), name=str(i)) for i in range(count)])
        found = ingest([folder], make_intake(max_length_s=20.0, max_gap_s=50.0), Episode.whole)
        return dict(zip([(each.name, each.begin) for each in found.episodes], found.splits, strict=True))

    few, many = drawn(4), drawn(9)
    assert few.items() <= many.items()
    assert len({split for name, split in few.items() if name[0].startswith("0#")}) > 1


def test_dreams_are_neither_cut_nor_put_on_another_clock(tmp_path):
    dream = replace(make_episodes(1, 9, source="dream")[0], timestamps=np.arange(9) * 1000.0)
    write_logs(tmp_path, [*make_episodes(3, 9), dream])
    found = ingested(tmp_path, resample_s=0.5, max_length_s=2.0)
    assert [each for each in found.episodes if each.source == "dream"] == [dream]
    assert len(found.episodes) == 1 + 3 * 5


def test_the_step_is_that_of_train_episodes_or_of_the_clock(tmp_path):
    logs = write_logs(tmp_path, [walk(np.arange(9) * 0.25), walk(np.arange(40) * 2.0, name="t", split="test")])
    assert ingested(logs).interval_s == 0.25
    assert ingested(logs, resample_s=0.5).interval_s == 0.5


@pytest.mark.parametrize(("offset", "step", "wide"), [(0, 0.01, False), (5e5, 0.01, True), (5e5, 10, False)])
def test_features_are_float64_where_float32_would_lose_what_moves(tmp_path, offset, step, wide):
    rng = np.random.default_rng(1)
    episodes = [
        walk(np.arange(50.0), name=str(i), features=np.stack([offset + rng.normal(0, step, 50), np.ones(50)], 1))
        for i in range(8)
    ]
    found = ingested(write_logs(tmp_path, episodes))
    for before, after in zip(episodes, found.episodes, strict=True):
        assert after.features.dtype == (np.float64 if wide else np.float32)
        np.testing.assert_array_equal(after.features, before.features.astype(after.features.dtype))


def test_names_are_those_of_features_yaml_also_in_what_is_refused(tmp_path):
    (tmp_path / "features.yaml").write_text("features: [speed, {name: heading, unit: degrees, kind: angle}]\n")
    found = ingested(log(tmp_path, frame(0), frame(1)))
    assert found.columns.features == (Column("speed"), Column("heading", "degrees", "angle"))
    log(tmp_path, frame(0), frame(1), frame(2, features=[1.0, "x"]))
    with pytest.raises(ValueError, match=r'log.jsonl:3: features\[1\] \(heading\): found "x"'):
        ingested(tmp_path)


def test_frames_farther_apart_than_max_gap_s_leave_no_window_and_it_is_said_why(tmp_path):
    log(tmp_path, *[frame(t * 3600) for t in range(9)])
    with pytest.raises(
        ValueError, match=r"no window in .* 1 frames.* 3600 s apart .*prepare\.max_gap_s is 60, .* divide"
    ):
        ingested(tmp_path)
    assert ingested(tmp_path, max_gap_s=3700).episodes[0].length == 9
    for key, value in (("max_length_s", 3600.0), ("resample_s", 30000.0)):
        with pytest.raises(ValueError, match=rf"no window.*prepare\.{key} is {value:g}: .*; or log longer"):
            ingested(tmp_path, **{"max_gap_s": 3700.0, key: value})


@pytest.mark.parametrize("fields", [{}, {"max_length_s": 1.0}, {"max_gap_s": 1.7e308, "resample_s": 2.0}])
def test_times_at_the_ends_of_float64_end_in_one_message(tmp_path, fields):
    log(tmp_path, *[named(t, "e") | {"features": [1.0]} for t in (-1.7e308, 1.7e308)])
    with pytest.raises(ValueError, match="no window in split train"):
        ingested(tmp_path, **fields)


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(12)), st.integers(1, 4))
def test_the_order_of_rows_and_files_decides_nothing(tmp_path_factory, order, files):
    episodes = [walk(np.arange(30) * 0.7 + i, name=str(i), agent_id=f"agent-{i % 2}") for i in range(12)]
    folder = tmp_path_factory.mktemp("logs")
    for number in range(files):
        write_logs(folder, [episodes[index] for index in order[number::files]], f"{number}.jsonl")
    intake = make_intake(split_by="time", margin=3, resample_s=0.5, max_length_s=5.0)
    facts = []
    for some in (folder, write_logs(tmp_path_factory.mktemp("one"), episodes)):
        found = ingest([some], intake, Episode.whole)
        pairs = sorted(zip(places(found.episodes), found.splits, strict=True))
        facts.append((pairs, found.episodes[0].features.dtype, found.interval_s))
    assert facts[0] == facts[1]


def test_what_is_stored_is_what_is_held_in_memory(tmp_path):
    logs = write_logs(tmp_path / "logs", make_episodes(30, 40))
    intake = make_intake(resample_s=0.7, max_length_s=9.0, split_by="time", margin=2)
    held = ingest([logs], intake, Episode.whole)
    with EpisodeStore.within(tmp_path) as store:
        stored = ingest([logs], intake, store.add)
        assert [each.whole() for each in stored.episodes] == list(held.episodes)


def test_missing_readings_are_told(tmp_path):
    rows = [frame(t, features=[None if t == 3 else 1.0, float(t)]) for t in range(9)]
    assert ingested(log(tmp_path, *rows), missing="mask").missing
    assert not ingested(log(tmp_path, *rows[:3]), missing="mask").missing
