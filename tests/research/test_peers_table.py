"""The command peers: every model on every log, whatever ends it in between."""

import ast
import json
import os
import subprocess
import sys
from dataclasses import replace

import click
import pytest
import yaml

from copies import ROOT, tiny_params
from factories import make_episodes, write_logs
from research.peers import table
from research.peers.cache import Case, ResultCache, code_of
from research.peers.training import measure
from worldmodel.core import params
from worldmodel.core.jobs import VARIABLE
from worldmodel.numerics.pinning import AVX2, BEYOND_AVX2

MODELS = ("ours", "pets", "admpo")


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """Two kinds of logs, two sizes, three models."""
    monkeypatch.setenv(VARIABLE, "1")  # as the command does for good
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tiny_params()), encoding="utf-8")
    for kind, noise in {"calm": 0.01, "rough": 0.1}.items():
        (tmp_path / "logs").mkdir(exist_ok=True)
        write_logs(tmp_path / "logs", make_episodes(24, 30, noise=noise), f"{kind}.jsonl")
    paths = {"logs": "logs", "params": "params.yaml", "cache": "cache", "out": "results.md"}
    named = [text for option, name in paths.items() for text in (f"--{option}", str(tmp_path / name))]
    return [*named, "--sizes", "4,6", "--models", ",".join(MODELS)]


@pytest.fixture
def measured(monkeypatch):
    """What was run: (model, train episodes, seconds given)."""
    runs = []

    def watched(name, logs, settings, seconds, seed):
        runs.append((name, len(logs.train), seconds))
        return measure(name, logs, settings, seconds, seed)

    monkeypatch.setattr(table, "measure", watched)
    return runs


def peers(*arguments):
    table.command.main(list(arguments), standalone_mode=False)


@pytest.mark.slow
def test_a_call_goes_on_where_it_was_and_each_peer_gets_the_seconds_that_ours_took(
    tmp_path, arguments, measured, monkeypatch, capsys
):
    watched = table.measure

    def killed(name, *rest):
        if name == "admpo":
            raise KeyboardInterrupt
        return watched(name, *rest)

    monkeypatch.setattr(table, "measure", killed)
    with pytest.raises((KeyboardInterrupt, click.Abort)):
        peers(*arguments)
    assert [name for name, *_ in measured] == ["hold-last", "ridge", "ours", "pets"]
    measured.clear()
    monkeypatch.setattr(table, "measure", watched)
    peers(*arguments)
    assert [name for name, *_ in measured] == ["admpo", *["hold-last", "ridge", "ours", "pets", "admpo"] * 3]
    results = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "cache").rglob("*.json")]
    assert len(results) == 2 * 2 * 5
    for kind in ("calm", "rough"):
        for size in (4, 6):
            rows = {row["model"]: row for row in results if (row["logs"], row["train_episodes"]) == (kind, size)}
            assert rows["ours"]["updates"] == tiny_params()["train"]["steps"]
            assert ("admpo", size, rows["ours"]["seconds"]) in measured
            assert rows["ours"]["test"]["mean"] < rows["hold-last"]["test"]["mean"]
            assert all(set(row["val"]) >= {"mean", "h1"} for row in rows.values())
    assert f"| rough, 6, admpo | {rows['admpo']['test']['mean']:.4f} |" in capsys.readouterr().out
    measured.clear()
    written = (tmp_path / "results.md").read_bytes()
    peers(*arguments)
    assert measured == []
    assert (tmp_path / "results.md").read_bytes() == written


@pytest.mark.slow
def test_two_processes_leave_the_same_files_as_one(tmp_path, arguments):
    names = []
    for jobs in ("1", "2"):
        folder = tmp_path / jobs
        few = ("--seconds", "0.05", "--sizes", "4", "--models", "admpo")
        peers(*arguments, *few, "--jobs", jobs, "--cache", str(folder))
        names.append(sorted(path.relative_to(folder) for path in folder.rglob("*.json")))
    assert names[0] == names[1]
    assert len(names[0]) == 2 * 3


def test_a_result_is_found_only_where_all_that_decides_it_is_the_same(tmp_path):
    settings = params.check(tiny_params(), tmp_path / "params.yaml")
    logs, other_logs = (write_logs(tmp_path, make_episodes(n), f"{n}.jsonl") / f"{n}.jsonl" for n in (2, 3))
    cache, case = ResultCache(tmp_path / "cache", settings, 5.0), Case("kind", logs, 4, 0)
    for model in ("ours", "pets", "ridge"):
        cache.put(case, model, {"test": {"mean": 0.5}, "seconds": 5.0, "updates": 3})
    assert cache.get(case, "pets")["test"] == {"mean": 0.5}
    assert cache.get(case, "rwm") is None
    for change in ({"size": 8}, {"seed": 1}, {"logs": other_logs}):
        assert cache.get(replace(case, **change), "pets") is None
    assert replace(cache, seconds=6.0).get(case, "pets") is None
    dreams = replace(settings, dreams=replace(settings.dreams, episodes=1))
    data = replace(settings, prepare=replace(settings.prepare, seed=99))
    for changed, kept in ((dreams, {"pets", "ridge"}), (data, set())):
        there = replace(cache, settings=changed)
        assert {model for model in ("ours", "pets", "ridge") if there.get(case, model)} == kept


def test_a_result_depends_on_the_code_that_made_it_and_no_other():
    ours, pets, ridge = (set(code_of(model)) for model in ("ours", "pets", "ridge"))
    assert "src/worldmodel/dreams/teacher.py" in ours - pets
    assert "research/peers/pets.py" in pets - ours - ridge
    assert {"src/worldmodel/model/baselines.py", "src/worldmodel/logs/split.py", "research/peers/training.py"} <= ridge
    others = ("export.py", "peers/table.py", "rwm.py")
    assert not any("/export/" in path or path.endswith(others) for path in ours | pets)


def test_the_table_shows_the_best_and_where_ours_is_not_it(tmp_path):
    def rows(**errors):
        named = {name.replace("_", "-"): error for name, error in errors.items()}
        spent = {name: 0 if name in ("hold-last", "ridge") else 9 for name in named}
        return {name: {"test": {"mean": e}, "seconds": 61.4, "updates": spent[name]} for name, e in named.items()}

    first, second = (Case("walker", tmp_path, size, 0) for size in (16, 0))
    results = {
        first: rows(hold_last=1.0, ridge=0.3, pets=0.25, ours=0.2),
        second: rows(hold_last=1.0, ridge=0.3, pets=0.00004, ours=0.05),
    }
    text = table.markdown(results, None)
    dash = "- | - | - | -"
    assert f"| walker | 16 | 1.0000 | 0.3000 | 0.2500 (61 s) | {dash} | **0.2000** (61 s) | -20.0 % (pets) |" in text
    assert f"| 1.0000 | 0.3000 | **4e-05** (61 s) | {dash} | 0.0500 (61 s) | **BEHIND: +124900.0 % (pets)** |" in text
    assert "Ours is the lowest in 1 of 2 rows; not in walker with all." in text
    assert "8 of 16 measurements are missing." in text


def test_a_mistake_is_named(tmp_path, arguments):
    with pytest.raises(ValueError, match=r"calm\.jsonl: \d+ train episodes, --sizes has 99"):
        peers(*arguments, "--sizes", "99")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected files \.jsonl or \.jsonl\.gz"):
        peers(*arguments[2:], "--logs", str(tmp_path / "empty"))
    with pytest.raises(click.UsageError, match="found oracle; expected pets, rwm, admpo, rssm, tdmpc2, ours"):
        peers(*arguments, "--models", "pets,oracle")
    with pytest.raises(click.UsageError, match="--models has no ours, whose seconds the peers get"):
        peers(*arguments, "--models", "pets")


def test_studies_compute_the_bits_that_the_stages_would():
    load = "import research, research.bench, research.peers.table, numpy; print(numpy.show_config(mode='dicts'))"
    environment = {name: value for name, value in os.environ.items() if name not in AVX2} | {"PYTHONPATH": "src"}
    done = subprocess.run([sys.executable, "-c", load], cwd=ROOT, env=environment, capture_output=True, text=True)
    loaded = ast.literal_eval(done.stdout)["SIMD Extensions"]["found"]
    assert not set(BEYOND_AVX2).intersection(loaded)
