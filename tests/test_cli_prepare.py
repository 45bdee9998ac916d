import pytest

from commands import call
from copies import ROOT
from factories import make_episodes, write_logs
from test_episodes import contents
from worldmodel.core.params import PrepareStage, load
from worldmodel.logs.reader import read_logs
from worldmodel.stages import prepare
from worldmodel.store.prepared import read_prepared


@pytest.fixture
def inputs(tmp_path):
    logs = write_logs(tmp_path / "logs", make_episodes(60, 3))
    dreams = write_logs(tmp_path / "dreams", make_episodes(2, 4, source="dream"))
    return ["--logs", str(logs), "--dreams", str(dreams)]


def made(out, *options):
    assert call("prepare", *options, "--out", out) == 0
    return out


def test_npz_is_what_the_stage_writes(tmp_path, inputs):
    stage = [*inputs, "--out", str(tmp_path / "stage"), "--params", str(ROOT / "params.yaml")]
    prepare.command.main(stage, standalone_mode=False)
    assert contents(made(tmp_path / "command", *inputs)) == contents(tmp_path / "stage")


def test_jsonl_mixes_all_in_one_file_with_the_split_in_it_whatever_the_seed_is_then(tmp_path, inputs):
    mixed = made(tmp_path / "mixed", *inputs, "--format", "jsonl")
    assert sorted(contents(mixed)) == ["dataset.jsonl", "rejects.csv"]
    direct = made(tmp_path / "direct", *inputs)
    expected = {(record.source, record.identity): record.split for record in read_prepared(direct)}
    episodes = read_logs([mixed], 60).episodes
    assert {(episode.source, episode.identity): episode.split for episode in episodes} == expected
    assert contents(made(tmp_path / "again", "--logs", mixed, "--seed", 99)) == contents(direct)


def test_dreams_may_be_one_file(tmp_path, inputs):
    inputs[-1] += "/log.jsonl"
    assert sum(record.source == "dream" for record in read_prepared(made(tmp_path / "out", *inputs))) == 2


def test_options_default_to_params_and_override_them(tmp_path, inputs):
    assert load(ROOT / "params.yaml", PrepareStage).prepare.train_episodes == 0
    out = made(tmp_path / "out", *inputs, "--train-episodes", 5, "--val-share", 0, "--split-by", "episode")
    splits = [record.split for record in read_prepared(out) if record.source == "observed"]
    assert splits.count("train") == 5
    assert set(splits) == {"train", "test"}


def test_an_option_that_is_wrong_is_named_in_one_line(tmp_path, inputs, capsys):
    for option, value, code, reason in [
        ("--val-share", "1.5", 1, "--val-share: "),
        ("--val-share", "0.95", 1, "leaves nothing to train on"),
        ("--max-gap-s", "nan", 1, "--max-gap-s: "),
        ("--split-by", "day", 2, "'episode', 'agent'"),
    ]:
        assert call("prepare", *inputs, "--out", tmp_path / "out", option, value) == code
        said = capsys.readouterr().err
        assert reason in said
        assert said.count("\n") == 1
