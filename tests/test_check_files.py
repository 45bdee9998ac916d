import re

import pytest

from commands import call
from copies import ROOT
from test_regular import KINDS

PIPELINE = """
stages:
  one:
    cmd: "true"
    deps: [data, src/one.py]
    params: [train.steps, {versions.yaml: [numpy]}]
    outs: [out, {big: {cache: false}}]
    plots: [{curve.csv: {x: step}}]
"""
READ = ("data/deep/x.jsonl", "src/one.py", "versions.yaml", "params.yaml", "dvc.lock", "out/x", "big", "curve.csv")


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    for name in (*READ, "unread/file"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_dvc_would_read_is_named_before_it_waits_for_ever(project, kind, capsys):
    place, said = KINDS[kind]
    assert call("check-files") == 0
    for name in READ:
        (project / name).unlink()
        place(project / name)
        for command in ("check-files", "fresh"):
            assert call(command) == 1
            assert capsys.readouterr().err.startswith(f"error: {name}: {said}")
        (project / name).unlink()
        (project / name).touch()
    (project / "unread/file").unlink()
    place(project / "unread/file")
    (project / "gone").mkdir()
    assert call("check-files") == 0


def test_make_calls_it_before_dvc():
    rules = re.findall(r"^(\w+): (.*?) *(?:##.*)?\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    needs = {name: before for name, before, recipe in rules if "dvc repro" in recipe}
    assert len(needs) == 6
    assert {before.split()[0] for before in needs.values()} == {"files"}
