import numpy as np
import pytest

from commands import call
from copies import ROOT
from factories import make_episodes, write_logs
from lines import log
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


def test_jsonl_keeps_what_was_cut_resampled_missing_named_and_known_ahead(tmp_path, capsys):
    rng = np.random.default_rng(3)
    frames = [
        {"agent_id": "a", "timestamp": 1e9 + t + 0.2 * rng.random(), "features": [4e5 + 0.001 * t, t % 9 or None]}
        | {"action": t % 3, "reward": t / 7, "context": [t / 24], "meta": {"episode": t // 50}}
        for t in range(400)
    ]
    logs = log(tmp_path, *frames)
    (logs / "features.yaml").write_text("features: [x, y]\ncontext: [hour]\n")
    given = ["--missing", "mask", "--resample-s", 0.5, "--max-length-s", 20, "--split-by", "time", "--margin", 2]
    direct = made(tmp_path / "direct", "--logs", logs, *given)
    mixed = made(tmp_path / "mixed", "--logs", logs, *given, "--format", "jsonl")
    assert contents(made(tmp_path / "again", "--logs", mixed, *given)) == contents(direct)
    (mixed / "features.yaml").write_text("features: [my, own]\n")
    capsys.readouterr()
    made(mixed, "--logs", logs, *given, "--format", "jsonl")
    assert f"names     not written: {mixed / 'features.yaml'} is there" in capsys.readouterr().out
    assert (mixed / "features.yaml").read_text() == "features: [my, own]\n"
    prepared = read_prepared(direct)
    assert [column.name for column in (*prepared.columns.features, *prepared.columns.context)] == ["x", "y", "hour"]
    assert (prepared.missing, prepared.wide, prepared.context_count, prepared.interval_s) == (True, True, 1, 0.5)
    assert {record.name.split("#")[-1] for record in prepared} == {"train", "val", "test"}
    arrays = prepared.load(next(iter(prepared)))
    assert (arrays.features.dtype, arrays.context.shape[1]) == (np.float64, 1)


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
