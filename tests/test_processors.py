import json
from dataclasses import replace

import pytest

import processors
from factories import make_dreams, make_episodes, make_train, write_logs
from worldmodel.config import params
from worldmodel.config.yaml12 import read_yaml

PARAMS = processors.ROOT / "params.yaml"
HERE = {"outs/dreams/dreams.jsonl": 64 * "0", "outs/gru/weights.safetensors": 64 * "1"}


@pytest.fixture
def settings():
    whole = params.check(read_yaml(PARAMS), PARAMS)
    return replace(whole, dreams=make_dreams(), train=make_train())


def test_all_that_computes_takes_part_in_little():
    small = processors.small(params.check(read_yaml(PARAMS), PARAMS))
    assert small.train.kl_weight > 0 < small.train.contrastive_weight
    assert small.dreams.teacher.points > 0 < small.dreams.teacher.transition_steps
    assert max(small.train.steps, small.dreams.teacher.steps, small.dreams.teacher.transition_steps) <= 10


def test_episodes_are_cut():
    [episode] = make_episodes(1, 100, rewards=True)
    short = processors.beginning(episode)
    assert (short.length, short.name, len(short.actions), len(short.rewards)) == (48, episode.name, 48, 48)
    assert (short.features == episode.features[:48]).all()


def test_the_stages_write_the_same_again(tmp_path, settings):
    log = write_logs(tmp_path, make_episodes(30, 12)) / "log.jsonl"
    first, again = (processors.hashes(log, settings, tmp_path / name) for name in "ab")
    assert first == again
    weights = {path for path in first if path.endswith("weights.safetensors") and "bundles" not in path}
    assert weights == {f"outs/{encoder}/weights.safetensors" for encoder in ("gru", "mlp", "transformer")}
    assert {"outs/dreams/dreams.jsonl", "outs/normalizer.json", "outs/normalized/features.npy"} <= set(first)


def answering(monkeypatch, other):
    monkeypatch.setattr(processors, "asked", lambda log, given, command: other if command else HERE)


def test_what_is_the_same_everywhere_is_said(monkeypatch, capsys):
    answering(monkeypatch, HERE)
    processors.main(["--processors", "Haswell-v1"])
    assert capsys.readouterr().out == (
        "file                          here          Haswell-v1\n"
        "outs/dreams/dreams.jsonl      000000000000  same\n"
        "outs/gru/weights.safetensors  111111111111  same\n"
    )


@pytest.mark.parametrize("other", [{}, HERE | {"outs/gru/weights.safetensors": 64 * "2"}])
def test_what_differs_somewhere_fails(monkeypatch, capsys, other):
    answering(monkeypatch, other)
    with pytest.raises(SystemExit) as ended:
        processors.main(["--processors", "Haswell-v1"])
    assert ended.value.code == 1
    assert "outs/gru/weights.safetensors  111111111111  differs\n" in capsys.readouterr().out


def test_a_process_says_its_hashes_and_nothing_else(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(processors, "hashes", lambda log, settings, folder: print("trained") or HERE)
    processors.main(["--here", str(tmp_path)])
    assert json.loads(capsys.readouterr().out) == HERE


def test_a_process_that_fails_is_named(tmp_path):
    with pytest.raises(ValueError, match="env -i: ended with 1; what it said stands above"):
        processors.asked(tmp_path / "none.jsonl", PARAMS, ["env", "-i"])
