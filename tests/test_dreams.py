import shutil
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from commands import stage
from factories import make_dreams, make_episodes, make_intake, make_normalize, write_logs
from worldmodel.core import params
from worldmodel.logs.reader import read_logs
from worldmodel.logs.split import assign
from worldmodel.stages import dreams

INTAKE = make_intake()
SIMULATOR = """
import numpy as np
from worldmodel.trajectory import Trajectory


def run(start, rng):
    frames = len(start.features) + start.length
    return Trajectory(
        np.repeat(start.features[:1], frames, axis=0), rng.uniform(-1, 1, (frames, 3)), np.zeros(frames)
    )
"""


def settings(**fields):
    compute = params.Compute(history=3, threads=1, numerics="portable", device="cpu")
    return params.DreamsStage(make_dreams(**fields), INTAKE, make_normalize(), compute)


def run(folder, logged, **fields):
    """The stage on logs of these episodes; returns the file that it wrote."""
    dreams.dreams(write_logs(folder / "logs", logged), folder / "out", settings(**fields))
    return folder / "out" / "dreams.jsonl"


def read(path):
    return read_logs([path], 60.0).episodes


def with_marked(splits, by=1e6, count=30):
    """Episodes; those that INTAKE puts into one of these splits have features that are far off."""
    episodes = make_episodes(count, 9)
    return [
        replace(episode, features=episode.features + np.float32(by)) if split in splits else episode
        for episode, split in zip(episodes, assign(episodes, INTAKE), strict=True)
    ]


def test_dreams_start_from_train_episodes_and_say_so(tmp_path):
    episodes = make_episodes(30, 9)
    split = dict(zip([episode.identity for episode in episodes], assign(episodes, INTAKE), strict=True))
    assert set(split.values()) == {"train", "val", "test"}
    found = read(run(tmp_path, episodes, episodes=120))
    starts = Counter(f'["{s["agent_id"]}","{s["episode"]}"]' for s in (each.provenance["start"] for each in found))
    assert len(found) == 120
    assert {split[start] for start in starts} == {"train"}
    assert len(starts) > 10


def test_dreams_are_taken_in_beside_their_logs(tmp_path):
    episodes = make_episodes(30, 9)
    found = read(run(tmp_path, episodes))
    assert assign([*episodes, *found], INTAKE)[30:] == ["train"] * len(found)


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_held_out_episodes_change_no_byte_of_a_dream(tmp_path, held_out):
    plain = run(tmp_path / "a", make_episodes(30, 9)).read_bytes()
    assert run(tmp_path / "b", with_marked([held_out])).read_bytes() == plain
    assert run(tmp_path / "c", with_marked(["train"], by=0.1)).read_bytes() != plain


def test_dreams_in_the_logs_do_not_teach(tmp_path):
    episodes = make_episodes(30, 9)
    plain = run(tmp_path / "a", episodes).read_bytes()
    assert run(tmp_path / "b", [*episodes, *make_episodes(5, 9, source="dream")]).read_bytes() == plain


def test_the_same_seed_gives_the_same_bytes_in_every_folder(tmp_path):
    one, same = (run(tmp_path / folder, make_episodes(30, 9)).read_bytes() for folder in ("a", "b/c"))
    assert one == same
    assert run(tmp_path / "d", make_episodes(30, 9), seed=8).read_bytes() != one


def test_no_dreams_give_an_empty_file(tmp_path):
    assert run(tmp_path, make_episodes(30, 9), episodes=0).read_bytes() == b""


def test_a_file_of_dreams_is_replaced(tmp_path):
    run(tmp_path, make_episodes(30, 9), episodes=9)
    shutil.rmtree(tmp_path / "logs")
    assert len(read(run(tmp_path, make_episodes(30, 9), episodes=2))) == 2


def test_a_simulator_dreams_from_train_episodes_alone_and_no_teacher_is_fitted(tmp_path, monkeypatch, capsys):
    (tmp_path / "straight_ahead.py").write_text(SIMULATOR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setattr("worldmodel.dreams.dreamer.fit_teacher", None)
    episodes = with_marked(["val", "test"])
    found = read(run(tmp_path, episodes, source="simulator", simulator="straight_ahead:run", episodes=50))
    assert len(found) == 50
    assert max(np.abs(each.features).max() for each in found) < 1e3
    assert assign([*episodes, *found], INTAKE)[30:] == ["train"] * 50
    assert "50 dreams of 350 frames by the simulator, from " in capsys.readouterr().out


def test_the_control_repeats_train_episodes_alone(tmp_path, capsys):
    episodes = with_marked(["val", "test"])
    found = read(run(tmp_path, episodes, source="repeat", episodes=50))
    assert len(found) == 50
    assert max(np.abs(each.features).max() for each in found) < 1e3
    assert assign([*episodes, *found], INTAKE)[30:] == ["train"] * 50
    assert "50 dreams of 350 frames by repeating what was logged, from " in capsys.readouterr().out


def test_the_teacher_dreams_whatever_simulator_is_named(tmp_path):
    one, other = (
        run(tmp_path / name, make_episodes(30, 9), simulator=f"{name}:run").read_bytes() for name in ("mine", "other")
    )
    assert one == other


def test_too_many_bad_rows_stop_it_before_anything_is_fitted(tmp_path):
    logs = write_logs(tmp_path / "logs", make_episodes(30, 9))
    with (logs / "log.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(ValueError, match=r"log\.jsonl:271: agent_id: missing"):
        dreams.dreams(logs, tmp_path / "out", settings())
    assert not (tmp_path / "out").exists()


def test_the_stage_reads_params_and_arguments(tmp_path, capsys):
    teacher = vars(make_dreams().teacher) | {"members": 2, "steps": 2, "z_dim": 4, "hidden_dim": 8}
    changes = {"dreams": {"episodes": 5, "length": 2, "teacher": teacher}, "train": {"history": 2}}
    logs = write_logs(tmp_path / "logs", make_episodes(30, 6))
    assert stage("dreams", tmp_path, changes, logs=logs, out=tmp_path / "out") == 0
    found = read(tmp_path / "out" / "dreams.jsonl")
    assert len(found) == 5
    assert {each.length for each in found} <= {3, 4}
    told = capsys.readouterr().out
    assert "5 dreams of " in told
    assert "a classifier tells dreams from reality with AUC" in told


def test_what_the_log_misses_dreams_begin_with_and_the_teacher_says_what_it_does_without(tmp_path, capsys):
    holes = np.random.default_rng(0).random((9, 2)) < 0.2
    logged = [replace(each, features=np.where(holes, np.nan, each.features)) for each in make_episodes(30, 9)]
    masked = replace(settings(episodes=20), prepare=replace(INTAKE, missing="mask"))
    dreams.dreams(write_logs(tmp_path / "logs", logged), tmp_path / "out", masked)
    assert "readings are missing: the teacher is its world models alone" in capsys.readouterr().out
    found = read_logs([tmp_path / "out"], 60.0, "mask").episodes
    assert len(found) == 20
    for each in found:
        begin = each.provenance["start"]["frame"]
        np.testing.assert_array_equal(np.isnan(each.features[:3]), holes[begin : begin + 3])
        assert not np.isnan(each.features[3:]).any()
