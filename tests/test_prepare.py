import csv
import json

import pytest

from commands import stage
from copies import ROOT
from factories import make_episodes, make_intake, write_logs
from test_episodes import contents
from worldmodel.stages.prepare import prepare
from worldmodel.store.prepared import read_prepared


@pytest.fixture
def logs(tmp_path):
    return write_logs(tmp_path / "logs", make_episodes(30, 4, agents=3))


def test_every_frame_is_prepared(tmp_path, logs, capsys):
    prepared = prepare(logs, None, tmp_path / "out", make_intake())
    assert sum(record.frames for record in prepared) == 120
    assert {record.split for record in prepared} == {"train", "val", "test"}
    assert (tmp_path / "out" / "rejects.csv").read_text() == "file,line,reason\n"
    printed = capsys.readouterr().out
    assert "agent agent-0: 10 episodes, 40 frames" in printed
    assert "rejected: 0 of 120 rows" in printed
    assert printed.count("observed, ") == 3


def test_two_folders_and_the_same_rows_in_other_files_give_the_same_bytes(tmp_path, logs):
    dreams = write_logs(tmp_path / "dreams", make_episodes(3, 4, source="dream"))
    episodes = make_episodes(30, 4, agents=3)
    other = write_logs(tmp_path / "other", episodes[20:], "1.jsonl")
    write_logs(other, episodes[:20], "2.jsonl.gz")
    for out, source in (("a", logs), ("b/c", logs), ("d", other)):
        prepared = prepare(source, dreams, tmp_path / out, make_intake())
        assert contents(tmp_path / "a") == contents(tmp_path / out)
    assert [record.split for record in prepared if record.source == "dream"] == ["train"] * 3


def test_a_dreams_folder_may_be_empty_but_not_missing(tmp_path, logs):
    (tmp_path / "dreams").mkdir()
    assert len(prepare(logs, tmp_path / "dreams", tmp_path / "out", make_intake())) == 30
    with pytest.raises(ValueError, match="gone: no such folder"):
        prepare(logs, tmp_path / "gone", tmp_path / "out", make_intake())


def spoil(logs, lines):
    """Make these lines (from 1) of the log unreadable."""
    path = logs / "log.jsonl"
    rows = path.read_text().splitlines()
    for line in lines:
        rows[line - 1] = rows[line - 1].replace("[", '["x",', 1)
    path.write_text("\n".join(rows))


def test_a_hole_cuts_an_episode_and_both_halves_share_its_split(tmp_path, capsys):
    logs = write_logs(tmp_path / "logs", make_episodes(30, 5))
    spoil(logs, range(3, 150, 5))
    prepared = prepare(logs, None, tmp_path / "out", make_intake(max_rejected_share=0.2))
    assert sum(record.frames for record in prepared) == 120
    printed = capsys.readouterr().out
    assert "rejected: 30 of 150 rows\n  30 features[]: expected a finite float32 number\n" in printed
    halves = {}
    for record in prepared:
        halves.setdefault(record.identity, []).append((record.segment, record.frames, record.split))
    for first, second in halves.values():
        assert (first[:2], second[:2]) == ((0, 2), (1, 2))
        assert first[2] == second[2]


def test_rejects_are_all_in_the_csv_even_if_they_stop_the_stage(tmp_path, logs):
    spoil(logs, range(1, 41))
    with pytest.raises(ValueError, match=r"40 of 120 rows are bad(.|\n)*log.jsonl:1: features\[0\]: found .x."):
        prepare(logs, None, tmp_path / "out", make_intake())
    with (tmp_path / "out" / "rejects.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["file", "line", "reason"]
    assert [row[:2] for row in rows[1:]] == [["log.jsonl", str(line)] for line in range(1, 41)]


def test_left_out_episodes_are_told(tmp_path, logs, capsys):
    prepared = prepare(logs, None, tmp_path / "out", make_intake(train_episodes=2))
    left_out = 30 - len(prepared)
    assert f"left out by train_episodes: {left_out} episodes" in capsys.readouterr().out


def test_the_stage_reads_params_and_arguments_an_address_too(tmp_path, capsys):
    logs = write_logs(tmp_path / "logs", make_episodes(60, 3))
    for given in (logs, f"file://{logs}"):
        assert stage("prepare", tmp_path, {}, logs=given, out=tmp_path / "out") == 0
        said = capsys.readouterr()
        assert "rejected: 0 of 180 rows" in said.out
        assert said.err == ""
        assert len(read_prepared(tmp_path / "out")) == 60


def test_bad_input_ends_in_one_message(tmp_path, capsys):
    (tmp_path / "log.jsonl").write_text(json.dumps({"agent_id": "a", "timestamp": 0, "features": ["x"]}) + "\n")
    assert stage("prepare", tmp_path, {}, logs=tmp_path, out=tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: 1 of 1 rows are bad")
    assert 'log.jsonl:1: features[0]: found "x", expected a finite float32 number' in said
    for missing in ("logs", "params"):
        paths = {"logs": ROOT / "tests", "out": tmp_path, missing: tmp_path / "gone"}
        assert stage("prepare", tmp_path, {}, **paths) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: {tmp_path / 'gone'}: no such")
        assert said.count("\n") == 1


@pytest.mark.slow
def test_twenty_thousand_short_episodes_are_a_few_files(tmp_path, capsys):
    (tmp_path / "logs").mkdir()
    with (tmp_path / "logs" / "log.jsonl").open("w") as stream:
        for number in range(20_000):
            stream.writelines(
                f'{{"agent_id":"a{number % 9}","timestamp":{t},"features":[{number}],"meta":{{"episode":{number}}}}}\n'
                for t in range(2)
            )
    prepared = prepare(tmp_path / "logs", None, tmp_path / "out", make_intake(format="lmdb"))
    assert len(prepared) == 20_000
    assert len(contents(tmp_path / "out")) < 10
    for record in tuple(prepared)[::1999]:
        assert prepared.load(record).features.tolist() == [[float(record.name)]] * 2
    assert "rejected: 0 of 40000 rows" in capsys.readouterr().out
