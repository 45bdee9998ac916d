"""`worldmodel train`: from logs to a bundle in one folder, without DVC."""

import json
from dataclasses import replace

import pytest
import yaml

from copies import tiny_params
from factories import make_episodes, write_logs
from worldmodel.cli.train import command
from worldmodel.client import WorldModel
from worldmodel.model.artifact import read_trained

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Calls it where the logs of a project lie, with tiny params; returns the folder it wrote."""
    monkeypatch.chdir(tmp_path)
    write_logs(tmp_path / "data/worldmodel/offline", make_episodes(30, 20, agents=3))
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(tiny_params()), encoding="utf-8")

    def call(*options):
        given = ["--out", tmp_path / "out", "--params", params, *options]
        command.main([str(each) for each in given], standalone_mode=False)
        return tmp_path / "out"

    return call


def test_logs_become_a_bundle_and_metrics_with_dreams_on_the_way(run):
    out = run("--rho", 0.25, "--batch-size", 8, "--horizon", 2)
    model = WorldModel.load(out / "worldmodel")
    assert (model.history, model.horizon) == (3, 2)
    assert json.loads((out / "metrics.json").read_text())["dreams"]["share"] == 0.25
    assert (out / "dreams" / "dreams.jsonl").stat().st_size > 0


def test_epochs_of_dreams_alone_and_options_out_of_range_are_refused(run):
    with pytest.raises(ValueError, match="--epochs 1 with 0% observed windows a batch; give --steps instead"):
        run("--rho", 1, "--epochs", 1)
    with pytest.raises(ValueError, match=r"--rho: .*less than or equal to 1"):
        run("--rho", 1.5)
    with pytest.raises(ValueError, match=r"no window in split \w+: .*prepare\.max_length_s is 0\.5: raise it"):
        run("--rho", 0, "--max-length-s", 0.5)


def test_what_runs_is_what_is_checked_and_epochs_draw_every_observed_window_so_often(run, tmp_path):
    values = tiny_params()
    values["dreams"]["episodes"], values["validate"]["horizon"] = 0, values["train"]["horizon"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ValueError, match=r"dreams\.episodes is 0 and train\.rho "):
        run()
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=r"with these options: train\.contrastive_weight is 0\.1"):
        run("--rho", 0, "--contrastive-weight", 0.1, "--batch-size", 1)
    out = run("--rho", 0, "--horizon", 2, "--epochs", 2.5, "--batch-size", 16)
    manifest = read_trained(out / "train").manifest
    steps, windows = manifest["arguments"]["steps"], manifest["windows"]["observed"]
    assert (steps - 1) * 16 < 2.5 * windows <= steps * 16
    assert not (out / "dreams").exists()


def test_dreams_of_ones_own_take_the_place_of_a_teachers(run, tmp_path):
    episodes = make_episodes(8, 12, agents=3)
    (tmp_path / "mine").mkdir()
    write_logs(tmp_path / "mine", [replace(each, source="dream", name=f"dream-{each.name}") for each in episodes])
    out = run("--dreams", tmp_path / "mine", "--rho", 0.5)
    assert json.loads((out / "metrics.json").read_text())["dreams"]["share"] == 0.5
