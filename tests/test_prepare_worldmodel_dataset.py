import subprocess
import sys
from pathlib import Path

import pytest

from factories import make_episodes, write_logs
from test_episodes import contents
from worldmodel.cli.prepare import command
from worldmodel.core.params import PrepareStage, load
from worldmodel.logs.reader import read_logs
from worldmodel.stages import prepare
from worldmodel.store.prepared import read_prepared

ROOT = Path(__file__).parents[1]


@pytest.fixture
def inputs(tmp_path):
    logs = write_logs(tmp_path / "logs", make_episodes(60, 3))
    dreams = write_logs(tmp_path / "dreams", make_episodes(2, 4, source="dream"))
    return ["--logs", str(logs), "--dreams", str(dreams)]


def test_npz_is_what_the_stage_writes(tmp_path, inputs):
    command.main([*inputs, "--out", str(tmp_path / "script")], standalone_mode=False)
    prepare.command.main([*inputs, "--out", str(tmp_path / "stage"), "--params", str(ROOT / "params.yaml")], standalone_mode=False)
    assert contents(tmp_path / "script") == contents(tmp_path / "stage")


def test_jsonl_mixes_all_in_one_file_and_fixes_the_split(tmp_path, inputs):
    command.main([*inputs, "--out", str(tmp_path / "mixed"), "--format", "jsonl"], standalone_mode=False)
    assert sorted(contents(tmp_path / "mixed")) == ["dataset.jsonl", "rejects.csv"]
    command.main([*inputs, "--out", str(tmp_path / "npz")], standalone_mode=False)
    expected = {(record.source, record.identity): record.split for record in read_prepared(tmp_path / "npz")}
    episodes = read_logs([tmp_path / "mixed"], 60).episodes
    assert {(episode.source, episode.identity): episode.split for episode in episodes} == expected


def test_the_mixed_file_prepares_to_the_same_episodes_under_any_seed(tmp_path, inputs):
    command.main([*inputs, "--out", str(tmp_path / "mixed"), "--format", "jsonl"], standalone_mode=False)
    command.main([*inputs, "--out", str(tmp_path / "direct")], standalone_mode=False)
    command.main(["--logs", str(tmp_path / "mixed"), "--out", str(tmp_path / "again"), "--seed", "99"], standalone_mode=False)
    assert contents(tmp_path / "again") == contents(tmp_path / "direct")


def test_dreams_may_be_one_file(tmp_path, inputs):
    inputs[-1] += "/log.jsonl"
    command.main([*inputs, "--out", str(tmp_path / "out")], standalone_mode=False)
    assert sum(record.source == "dream" for record in read_prepared(tmp_path / "out")) == 2


def test_options_default_to_params_and_override_them(tmp_path, inputs):
    section = load(ROOT / "params.yaml", PrepareStage).prepare
    assert section.train_episodes == 0
    command.main([*inputs, "--out", str(tmp_path), "--train-episodes", "5", "--val-share", "0", "--split-by", "episode"], standalone_mode=False)
    records = [record for record in read_prepared(tmp_path) if record.source == "observed"]
    assert [record.split for record in records].count("train") == 5
    assert {record.split for record in records} == {"train", "test"}


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--val-share", "1.5", "--val-share: .*less than or equal to 1"),
        ("--val-share", "0.95", "leaves nothing to train on"),
        ("--max-gap-s", "nan", "--max-gap-s: "),
    ],
)
def test_an_option_out_of_range_is_named(tmp_path, inputs, option, value, reason):
    with pytest.raises(ValueError, match=reason):
        command.main([*inputs, "--out", str(tmp_path), option, value], standalone_mode=False)


def test_a_choice_that_is_none_is_refused_with_the_choices(tmp_path, inputs, capsys):
    with pytest.raises(SystemExit):
        command.main([*inputs, "--out", str(tmp_path), "--split-by", "day"], standalone_mode=False)
    assert "choose from episode, agent" in capsys.readouterr().err.replace("'", "")


def test_the_script_runs_without_install_from_any_folder(tmp_path, inputs):
    script = ROOT / "scripts" / "prepare_worldmodel_dataset.py"
    command = [sys.executable, str(script), *inputs, "--out", "out", "--format", "jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "dataset.jsonl").exists()
    done = subprocess.run([*command, "--val-share", "2"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: --val-share: ")
