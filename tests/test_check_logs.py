import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import call
from copies import ROOT
from factories import make_episodes, write_logs
from lines import frame, log, named
from test_episodes import contents
from worldmodel.cli import check_logs
from worldmodel.core.params import read
from worldmodel.core.project import default_params
from worldmodel.episodes.schema import Episode
from worldmodel.linting import repeats
from worldmodel.linting.remarks import Limits
from worldmodel.logs.ingest import ingest
from worldmodel.logs.reader import read_logs


def test_good_logs_end_in_a_summary_and_nothing_is_written(tmp_path, capsys):
    write_logs(tmp_path, make_episodes(4, 5), "a.jsonl.gz")
    before = contents(tmp_path)
    for path in (tmp_path, tmp_path / "a.jsonl.gz"):
        assert call("check-logs", path) == 0
        said = capsys.readouterr()
        assert "episodes  4, 5 frames each" in said.out
        assert said.err == ""
    assert contents(tmp_path) == before


def test_the_sample_is_good(capsys):
    assert call("check-logs", ROOT / "data/worldmodel/offline") == 0
    assert "episodes  272, 200 frames each" in capsys.readouterr().out


def test_wrong_rows_are_named_and_counted_with_exit_code_1(tmp_path, capsys):
    assert call("check-logs", log(tmp_path, frame(0), *["?"] * 24, frame(1, features=[]))) == 1
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert said.err == ""
    assert [line.split(": ")[0] for line in lines[:20]] == [f"log.jsonl:{number}" for number in range(2, 22)]
    assert lines[20:] == [
        "",
        "25 of 26 rows are wrong:",
        "      24 not JSON",
        "       1 features: expected a non-empty list of numbers within float32's range, null where one is missing",
        "",
        "1 remark on what is allowed and probably wrong:",
        lines[-1],
    ]
    assert lines[-1].startswith("log.jsonl:1, episode @0.0: no-windows: ALL 1 of 1 frames")


def test_remarks_as_json_for_programs_and_strict_for_ci(tmp_path, capsys):
    write_logs(tmp_path, make_episodes(4, 12), "a.jsonl")
    (tmp_path / "b.jsonl.1").write_text("{}")
    (tmp_path / "._a.jsonl").write_bytes(b"\x00\x05\x16\x07")
    assert call("check-logs", tmp_path, "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    counts = {"files": 1, "frames": 48, "episodes": 4, "usable_episodes": 4, "windows": 4, "rejected": 0, "errors": []}
    assert {key: found[key] for key in counts} == counts
    assert found["unread_files"] == ["._a.jsonl", "b.jsonl.1"]
    kinds = {remark["kind"]: remark for remark in found["remarks"]}
    assert set(kinds) == {"few-episodes", "unread-files"}
    assert set(kinds["unread-files"]) == {"kind", "file", "line", "episode", "count", "message"}
    assert call("check-logs", tmp_path, "--strict") == 1


def kinds(folder, **intake):
    params = replace(read(default_params()).prepare, **intake)
    return {each.kind: each for each in check_logs.check(folder, Limits(params, 8, 16)).remarks}


def recording(folder, columns, step=0.1, name="log.jsonl"):
    """One episode of these columns [F, T]."""
    lines = (frame(round(t * step, 6), features=row) for t, row in enumerate(np.transpose(columns).tolist()))
    return log(folder, *lines, name=name)


def walk(count, length, seed=0):
    return np.random.default_rng(seed).normal(0, 0.01, (count, length)).cumsum(axis=1).round(6)


def test_a_wrap_is_remarked_until_features_yaml_says_that_it_is_an_angle(tmp_path):
    heading = (np.arange(600) * 7.3) % 360
    recording(tmp_path, [*walk(1, 600), heading.round(3)])
    found = kinds(tmp_path)
    assert "feature 1 (degrees, 12 times)" in found["angle"].message
    assert "{name: heading, unit: degrees, kind: angle}" in found["angle"].message
    (tmp_path / "features.yaml").write_text("features: [x, {name: track, unit: degrees, kind: angle}]\n")
    assert "angle" not in kinds(tmp_path)
    (tmp_path / "features.yaml").write_text("features: [x, track]\n")
    assert "feature 1 (track) (degrees" in kinds(tmp_path)["angle"].message


def test_a_quaternion_that_turns_its_sign_is_no_teleport(tmp_path):
    turn = np.linspace(0, 3, 600)
    quaternion = np.array([np.cos(turn), 0.6 * np.sin(turn), 0.5 * np.sin(turn), 0.62 * np.sin(turn)])
    quaternion[:, 300:450] *= -1
    recording(tmp_path, [*walk(2, 600), *quaternion])
    assert "teleport" not in kinds(tmp_path)
    jumped = np.concatenate([walk(6, 300), walk(6, 300, seed=1) + 1], axis=1)
    recording(tmp_path, jumped)
    assert kinds(tmp_path)["teleport"].count == 1


def test_of_several_features_at_their_limits_the_worst_one_is_named_and_a_single_one_is_named_once(tmp_path):
    columns = walk(4, 600)
    columns[0] = np.minimum(columns[0], np.quantile(columns[0], 0.8))
    recording(tmp_path, columns)
    assert kinds(tmp_path)["saturated"].message.startswith("feature 0: 20% of the frames have just the lowest or high")
    columns[2] = np.maximum(columns[2], np.quantile(columns[2], 0.4))
    recording(tmp_path, columns)
    message = kinds(tmp_path)["saturated"].message
    assert message.startswith(
        "features 0, 2: up to 40% of the frames have just the lowest or highest value (feature 2);"
    )


def test_pieces_that_say_which_they_are_are_one_rollout_whatever_their_clock(tmp_path):
    """As the reader takes them."""
    log(tmp_path, *[named(t, "e", **({"episode_segment": t // 5} if t % 5 == 0 else {})) | {"timestamp": t % 5}
                    for t in range(20)])  # fmt: skip
    assert "same-name" not in kinds(tmp_path)
    assert {each.name for each in read_logs([tmp_path], 60.0).episodes} == {"e"}


def test_one_recording_is_enough_where_it_is_cut_or_split_by_time(tmp_path):
    recording(tmp_path, walk(3, 1000))
    assert "prepare.max_length_s" in kinds(tmp_path)["one-episode"].message
    assert not kinds(tmp_path, max_length_s=5.0).keys() & {"one-episode", "few-episodes"}
    assert not kinds(tmp_path, split_by="time").keys() & {"one-episode", "few-episodes"}


def test_holes_beyond_max_gap_s_are_cut_and_no_gap_is_left(tmp_path):
    times = [*range(20), *range(50, 70)]
    log(tmp_path, *(frame(t, features=[t % 7, t * 0.1], meta={"episode": 1}) for t in times))
    assert kinds(tmp_path, max_gap_s=40.0)["gap"].count == 1
    assert "gap" not in kinds(tmp_path, max_gap_s=20.0)


def test_missing_readings_are_errors_that_name_the_column_or_a_line_of_the_summary(tmp_path):
    log(tmp_path, *(frame(t, features=[t, None if t % 5 == 0 else t / 3]) for t in range(40)))
    (tmp_path / "features.yaml").write_text("features: [x, wind]\n")
    prepare = read(default_params()).prepare
    found = check_logs.check(tmp_path, Limits(prepare, 8, 16))
    assert len(found.rejects) == 8
    assert "features[1] (wind): missing (null)" in found.lines()[0]
    assert "prepare.missing: mask" in found.lines()[0]
    found = check_logs.check(tmp_path, Limits(replace(prepare, missing="mask"), 8, 16))
    (row,) = (line.split() for line in found.lines() if line.startswith("feature 1 wind"))
    assert row[-1] == "20.0%"


def test_frames_of_large_numbers_that_come_twice_are_counted_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(repeats, "AT_ONCE", 100)
    monkeypatch.setattr(repeats, "BLOCK", 64)
    recording(tmp_path, walk(2, 500) + 4.5e6)
    recording(tmp_path, (walk(2, 500) + 4.5e6)[:, :300], name="again.jsonl")
    found = kinds(tmp_path)
    assert found["duplicate-frames"].count == 300
    assert found["duplicate-frames"].file == "log.jsonl"
    assert "kept in float64" in found["float32-loss"].message


def test_where_nothing_can_be_read_one_line_says_so(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.jsonl").write_text("\n\n")
    for name in ("gone", "empty", "blank.jsonl"):
        assert call("check-logs", tmp_path / name) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"error: {tmp_path / name}")
        assert said.err.count("\n") == 1


def test_a_terminal_that_knows_ascii_alone_is_enough(tmp_path):
    command = [sys.executable, "-m", "worldmodel", "check-logs", log(tmp_path, frame(0, "\u00e9\u4e2d"))]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\xe9\u4e2d 1" in done.stdout


@settings(max_examples=40)
@given(st.binary(max_size=64))
def test_whatever_the_bytes_there_is_no_traceback(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "log.jsonl"
    path.write_bytes(content + b"\n?")
    found = check_logs.check(path, Limits(read(default_params()).prepare, 8, 16))
    assert found.rejects
    assert any(line.startswith("log.jsonl:") for line in found.lines())


@pytest.mark.parametrize(
    "cut",
    [
        {"max_gap_s": 30.0},
        {"max_length_s": 7.0, "resample_s": 0.5},
        {"split_by": "time", "margin": 4, "val_share": 0.3},
    ],
)
def test_episodes_are_counted_as_prepare_cuts_them(tmp_path, cut):
    times = [t + 50 * (t > 40) + 0.1 * (t % 3) for t in range(120)]
    log(tmp_path, *[named(t, "e") for t in times], *[frame(t, "b") for t in times])
    intake = replace(read(default_params()).prepare, test_share=0.0, **({"val_share": 0.0} | cut))
    found = check_logs.check(tmp_path, Limits(intake, 3, 2)).to_json()
    lengths = [each.length for each in ingest([tmp_path], intake, Episode.whole).episodes]
    assert (found["episodes"], found["frames"]) == (len(lengths), sum(lengths))
    assert found["windows"] == sum(max(length - 5, 0) + 1 for length in lengths if length > 3)


def test_rollouts_of_one_name_whose_clock_begins_anew_are_not_few(tmp_path):
    row = {"agent_id": "a", "features": [1.0, 2.0]}
    rows = [row | {"timestamp": float(t), "features": [t * 0.1, n]} for n in range(12) for t in range(20)]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    found = kinds(tmp_path)
    assert "same-name" in found
    assert not {"few-episodes", "one-episode"} & set(found)
