import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from factories import make_episodes, make_intake, write_logs
from test_episodes import contents
from worldmodel.stages.prepare import prepare
from worldmodel.store.prepared import read_prepared

ROOT = Path(__file__).parents[1]
PARAMS = ROOT / "params.yaml"


def run(*arguments):
    command = [sys.executable, ROOT / "src" / "prepare.py", *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


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


def test_two_runs_in_two_folders_give_the_same_bytes(tmp_path, logs):
    dreams = write_logs(tmp_path / "dreams", make_episodes(3, 4, source="dream"))
    for out in ("a", "b/c"):
        prepare(logs, dreams, tmp_path / out, make_intake())
    assert contents(tmp_path / "a") == contents(tmp_path / "b/c")


def test_the_same_rows_in_other_files_give_the_same_episodes(tmp_path, logs):
    episodes = make_episodes(30, 4, agents=3)
    other = write_logs(tmp_path / "other", episodes[20:], "1.jsonl")
    write_logs(other, episodes[:20], "2.jsonl.gz")
    one, two = (prepare(folder, None, tmp_path / folder.name / "out", make_intake()) for folder in (logs, other))
    assert contents(one.folder) == contents(two.folder)


def test_dreams_are_mixed_in_as_train(tmp_path, logs):
    dreams = write_logs(tmp_path / "dreams", make_episodes(3, 4, source="dream"))
    prepared = prepare(logs, dreams, tmp_path / "out", make_intake())
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
        rows[line - 1] = rows[line - 1].replace("[", "[null,", 1)
    path.write_text("\n".join(rows))


def test_a_hole_cuts_an_episode_and_both_halves_share_its_split(tmp_path):
    logs = write_logs(tmp_path / "logs", make_episodes(30, 5))
    spoil(logs, range(3, 150, 5))
    prepared = prepare(logs, None, tmp_path / "out", make_intake(max_rejected_share=0.2))
    assert sum(record.frames for record in prepared) == 120
    halves = {}
    for record in prepared:
        halves.setdefault(record.identity, []).append((record.segment, record.frames, record.split))
    for first, second in halves.values():
        assert (first[:2], second[:2]) == ((0, 2), (1, 2))
        assert first[2] == second[2]


def test_rejects_are_all_in_the_csv_even_if_they_stop_the_stage(tmp_path, logs):
    spoil(logs, range(1, 41))
    with pytest.raises(ValueError, match=r"40 of 120 rows are bad(.|\n)*log.jsonl:1: features\[0\]: found null"):
        prepare(logs, None, tmp_path / "out", make_intake())
    with (tmp_path / "out" / "rejects.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["file", "line", "reason"]
    assert [row[:2] for row in rows[1:]] == [["log.jsonl", str(line)] for line in range(1, 41)]


def test_left_out_episodes_are_told(tmp_path, logs, capsys):
    prepared = prepare(logs, None, tmp_path / "out", make_intake(train_episodes=2))
    left_out = 30 - len(prepared)
    assert f"left out by train_episodes: {left_out} episodes" in capsys.readouterr().out


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_stage_runs_from_any_folder_as_a_file(tmp_path, scheme):
    logs = f"{scheme}{write_logs(tmp_path / 'logs', make_episodes(60, 3))}"
    done = run("--logs", logs, "--out", tmp_path / "out", "--params", PARAMS)
    assert (done.returncode, done.stderr) == (0, "")
    assert "rejected: 0 of 180 rows" in done.stdout
    assert len(read_prepared(tmp_path / "out")) == 60


def test_bad_input_ends_in_one_message_without_a_traceback(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps({"agent_id": "a", "timestamp": 0, "features": ["x"]}) + "\n")
    done = run("--logs", tmp_path, "--out", tmp_path / "out", "--params", PARAMS)
    assert done.returncode == 1
    assert done.stderr.startswith("error: 1 of 1 rows are bad")
    assert 'log.jsonl:1: features[0]: found "x", expected a finite float32 number' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["--logs", "--params"])
def test_a_missing_path_ends_in_one_message(tmp_path, missing):
    given = {"--logs": ROOT / "tests", "--out": tmp_path, "--params": PARAMS, missing: tmp_path / "gone"}
    done = run(*[part for pair in given.items() for part in pair])
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'gone'}: no such")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        (make_episodes(5, 4, source="dream"), "no observed episode is train, which should get a share of 0.6"),
        (make_episodes(1, 40), r"no observed episode is \w+, which should get a share of 0\.[26] \(found train \d"),
        (make_episodes(9, 4, split="train"), "no observed episode is val, which should get a share of 0.2 "),
        (make_episodes(9, 4, split="test"), "no observed episode is train, which should get a share of 0.6"),
    ],
    ids=["only dreams", "one episode", "nothing held out", "nothing to train on"],
)
def test_logs_that_cannot_be_split_stop_with_advice(tmp_path, episodes, message):
    with pytest.raises(
        ValueError, match=message + r".*; add logs, (set prepare\.seed to \d+ .*, )?change prepare\.val_share or"
    ):
        prepare(write_logs(tmp_path / "logs", episodes), None, tmp_path / "out", make_intake())


def test_a_hundred_thousand_short_episodes_are_a_few_files(tmp_path, capsys):
    (tmp_path / "logs").mkdir()
    with (tmp_path / "logs" / "log.jsonl").open("w") as stream:
        for number in range(100_000):
            stream.writelines(
                f'{{"agent_id":"a{number % 9}","timestamp":{t},"features":[{number}],"meta":{{"episode":{number}}}}}\n'
                for t in range(2)
            )
    prepared = prepare(tmp_path / "logs", None, tmp_path / "out", make_intake(format="lmdb"))
    assert len(prepared) == 100_000
    assert len(contents(tmp_path / "out")) < 10
    for record in tuple(prepared)[::9999]:
        assert prepared.load(record).features.tolist() == [[float(record.name)]] * 2
    assert "rejected: 0 of 200000 rows" in capsys.readouterr().out


def test_what_was_rejected_is_counted_by_reason(tmp_path, logs, capsys):
    spoil(logs, [3, 8])
    prepare(logs, None, tmp_path / "out", make_intake(max_rejected_share=0.2))
    printed = capsys.readouterr().out
    assert "rejected: 2 of 120 rows\n  2 features[]: expected a finite float32 number\n" in printed
