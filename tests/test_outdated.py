"""No metrics of an earlier run pass for those of one that failed, or that ended halfway."""

import sys

import pytest
import yaml

from copies import ROOT

MEASURED = ["artifacts/metrics.json", "artifacts/plots/features.csv"]
KEPT = [*MEASURED, "artifacts/plots/loss.csv", "dvc.lock"]


def there(copy):
    return [name for name in MEASURED if (copy.folder / name).exists()]


@pytest.mark.parametrize(
    ("old", "new", "stage"),
    [
        ("constant", "constnat", ""),
        ("format: npz", "format: lmdb", "normalize"),
        ("rho: 0.5", "rho: 0.4", "train"),
    ],
)
def test_what_fails_or_ends_halfway_leaves_no_metrics_and_they_come_back(copy, old, new, stage):
    before, params = {name: copy.read(name) for name in KEPT}, copy.read("params.yaml")
    assert old in params
    copy.write("params.yaml", params.replace(old, new))
    assert copy.attempt("dvc", "repro", *stage.split()).returncode == (0 if stage else 255)
    assert there(copy) == []
    assert "mse" not in copy.run("dvc", "metrics", "show")
    copy.write("params.yaml", params)
    assert copy.repro()[0] == set()
    assert {name: copy.read(name) for name in KEPT} == before


def test_a_clone_keeps_its_metrics_until_a_stage_begins_with_other_logs(copy, tmp_path):
    copy.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = type(copy)(tmp_path / "clone")
    clone.run("dvc", "config", "--local", "cache.dir", str(copy.folder / ".dvc/cache"))
    assert clone.repro("prepare") == (set(), {"dreams", "prepare"})
    clone.write("src/prepare.py", f'{clone.read("src/prepare.py")}"""Other code, the same data."""\n')
    assert clone.repro("prepare") == ({"prepare"}, set())
    assert there(clone) == MEASURED
    clone.write("data/worldmodel/offline/mine.jsonl", "{}\n")
    clone.refused("dvc", "repro")
    assert "mse" not in clone.run("dvc", "metrics", "show")
    clone.run("git", "checkout", "artifacts")
    assert there(clone) == MEASURED


def test_a_call_with_outs_of_its_own_removes_nothing(copy, tmp_path):
    command = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["normalize"]["cmd"]
    words = command.split()[1:]
    copy.write("params.yaml", copy.read("params.yaml").replace("min_std: 1.0e-08", "min_std: 1.0e-07"))
    copy.run(sys.executable, *(word.replace("artifacts/", f"{tmp_path}/") for word in words))
    assert (tmp_path / "normalizer.json").exists()
    assert there(copy) == MEASURED
    copy.write("dvc.lock", "")
    copy.run(sys.executable, *words)
    assert there(copy) == []
