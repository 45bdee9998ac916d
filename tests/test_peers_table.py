"""studies/peers/table.py: every model on every log, whatever ends it in between."""

import ast
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from copies import tiny_params
from factories import make_episodes, write_logs
from research.peers import cells, compare, measuring, ranking, table
from research.peers.cells import Cell, Shelf
from research.peers.compare import on_the_processor
from worldmodel.numerics.pinning import AVX2, BEYOND_AVX2

MODELS = ("ours", "pets", "admpo")


@pytest.fixture
def params(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tiny_params()), encoding="utf-8")
    return path


@pytest.fixture
def arguments(tmp_path, params):
    for kind, noise in {"calm": 0.01, "rough": 0.1}.items():
        (tmp_path / "logs").mkdir(exist_ok=True)
        write_logs(tmp_path / "logs", make_episodes(24, 30, noise=noise), f"{kind}.jsonl")
    paths = {"logs": "logs", "params": "params.yaml", "cells": "cells", "out": "results.md"}
    named = [text for option, name in paths.items() for text in (f"--{option}", str(tmp_path / name))]
    return [*named, "--sizes", "4,6", "--models", ",".join(MODELS)]


@pytest.fixture
def measured(monkeypatch):
    """What was run: (model, train episodes, seconds given)."""
    runs = []

    def watched(name, material, settings, seconds, seed):
        runs.append((name, len(material.train), seconds))
        return measuring.measure(name, material, settings, seconds, seed)

    monkeypatch.setattr(table, "measure", watched)
    return runs


def test_each_peer_gets_the_seconds_that_ours_took_in_the_same_cell(tmp_path, arguments, measured):
    table.main(arguments)
    kept = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((tmp_path / "cells").rglob("*.json"))]
    assert len(kept) == len(measured) == 2 * 2 * (len(MODELS) + len(measuring.FLOORS))
    for kind in ("calm", "rough"):
        for size in (4, 6):
            rows = {row["model"]: row for row in kept if (row["logs"], row["train_episodes"]) == (kind, size)}
            assert rows["ours"]["updates"] > 0
            for peer in ("pets", "admpo"):
                assert ("pets", size, rows["ours"]["seconds"]) in measured
                assert rows["ours"]["seconds"] <= rows[peer]["seconds"] < rows["ours"]["seconds"] + 0.5


def test_a_second_call_runs_nothing_and_writes_the_same_table(tmp_path, arguments, measured):
    table.main(arguments)
    measured.clear()
    written = (tmp_path / "results.md").read_bytes()
    table.main(arguments)
    assert measured == []
    assert (tmp_path / "results.md").read_bytes() == written


def test_what_was_finished_before_a_kill_is_not_run_again(arguments, measured, monkeypatch):
    watched = table.measure

    def killed(name, *rest):
        if name == "admpo":
            raise KeyboardInterrupt
        return watched(name, *rest)

    monkeypatch.setattr(table, "measure", killed)
    with pytest.raises(KeyboardInterrupt):
        table.main(arguments)
    assert [name for name, *_ in measured] == ["hold-last", "ridge", "ours", "pets"]
    measured.clear()
    monkeypatch.setattr(table, "measure", watched)
    table.main(arguments)
    assert [name for name, size, _ in measured][:6] == ["admpo", "hold-last", "ridge", "ours", "pets", "admpo"]
    assert len(measured) == 1 + 3 * 5


def test_two_processes_leave_the_same_files_as_one(tmp_path, arguments):
    given = [*arguments, "--seconds", "0.05", "--models", "admpo"]
    names = []
    for jobs in ("1", "2"):
        folder = tmp_path / jobs
        table.main([*given, "--jobs", jobs, "--cells", str(folder)])
        names.append(sorted(path.relative_to(folder) for path in folder.rglob("*.json")))
    assert names[0] == names[1]
    assert len(names[0]) == 4 * 3


def test_a_result_is_found_only_where_all_that_decides_it_is_the_same(tmp_path, params):
    settings = on_the_processor(params)
    logs = write_logs(tmp_path, make_episodes(2), "a.jsonl") / "a.jsonl"
    other_logs = write_logs(tmp_path, make_episodes(3), "b.jsonl") / "b.jsonl"
    shelf, cell = Shelf(tmp_path / "cells", settings, 5.0), Cell("kind", logs, 4, 0)
    row = {"model": "pets", "test": {"mean": 0.5}, "seconds": 5.0, "updates": 3}
    shelf.keep(cell, "pets", row)
    assert shelf.found(cell, "pets")["test"] == {"mean": 0.5}
    assert shelf.found(cell, "rwm") is None
    for change in ({"size": 8}, {"seed": 1}, {"logs": other_logs}):
        assert shelf.found(replace(cell, **change), "pets") is None
    for seconds in (6.0, None):
        assert replace(shelf, seconds=seconds).found(cell, "pets") is None


def test_a_change_of_dreams_reruns_ours_and_a_change_of_data_everything(tmp_path, params):
    settings = on_the_processor(params)
    logs = write_logs(tmp_path, make_episodes(2), "a.jsonl") / "a.jsonl"
    shelf, cell = Shelf(tmp_path / "cells", settings, 5.0), Cell("kind", logs, 4, 0)
    row = {"test": {"mean": 0.5}, "seconds": 5.0, "updates": 3}
    for model in ("ours", "pets", "ridge"):
        shelf.keep(cell, model, row)
    dreams = replace(settings, dreams=replace(settings.dreams, episodes=1))
    data = replace(settings, prepare=replace(settings.prepare, seed=99))
    for changed, kept in ((dreams, {"pets", "ridge"}), (data, set())):
        there = replace(shelf, settings=changed)
        assert {model for model in ("ours", "pets", "ridge") if there.found(cell, model)} == kept


def test_a_result_depends_on_the_code_that_made_it_and_no_other():
    ours, pets, ridge = (set(cells.code_of(model)) for model in ("ours", "pets", "ridge"))
    assert "src/worldmodel/dreaming/teacher.py" in ours - pets
    assert "studies/peers/pets.py" in pets - ours - ridge
    assert {"src/worldmodel/learning/floors.py", "src/worldmodel/data/split.py", "studies/peers/fitting.py"} <= ridge
    assert not any("onnx" in path or path.endswith(("export.py", "peers/table.py", "rwm.py")) for path in ours | pets)


def cell_rows(**errors):
    rows = {name: {"test": {"mean": error}, "seconds": 61.4, "updates": 9} for name, error in errors.items()}
    floors = {"hold-last": rows.pop("hold_last"), "ridge": rows.pop("ridge")}
    return {name: row | {"updates": 0} for name, row in floors.items()} | rows


def test_the_table_shows_the_best_and_where_ours_is_not_it(tmp_path):
    first, second = (Cell("walker", tmp_path, size, 0) for size in (16, 0))
    found = {
        first: cell_rows(hold_last=1.0, ridge=0.3, pets=0.25, ours=0.2),
        second: cell_rows(hold_last=1.0, ridge=0.3, pets=0.00004, ours=0.05),
    }
    text = ranking.markdown(found, None)
    dash = "- | - | - | -"
    assert f"| walker | 16 | 1.0000 | 0.3000 | 0.2500 (61 s) | {dash} | **0.2000** (61 s) | -20.0 % (pets) |" in text
    assert f"| 1.0000 | 0.3000 | **4e-05** (61 s) | {dash} | 0.0500 (61 s) | **BEHIND: +124900.0 % (pets)** |" in text
    assert "Ours is the lowest in 1 of 2 rows; not in walker with all." in text
    assert "8 of 16 measurements are missing." in text


@pytest.mark.parametrize("script", [table, compare])
def test_a_process_of_its_own_computes_the_bits_that_the_stages_would(script):
    load = f"import runpy; runpy.run_path({script.__file__!r}); import numpy; print(numpy.show_config(mode='dicts'))"
    environment = {name: value for name, value in os.environ.items() if name not in AVX2}
    done = subprocess.run([sys.executable, "-c", load], env=environment, capture_output=True, text=True, check=True)
    loaded = ast.literal_eval(done.stdout)["SIMD Extensions"]["found"]
    assert not set(BEYOND_AVX2).intersection(loaded)


def test_logs_that_hold_too_few_episodes_are_named(arguments):
    with pytest.raises(ValueError, match=r"calm\.jsonl: \d+ train episodes, --sizes asks for 99"):
        table.main([*arguments, "--sizes", "99"])


def test_a_folder_without_logs_is_refused(tmp_path, arguments):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected files \.jsonl or \.jsonl\.gz"):
        table.main([*arguments, "--logs", str(tmp_path / "empty")])
