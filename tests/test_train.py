import csv
import json
import shutil
import socket
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from commands import stage
from projects import Project, make_project, make_train, observed_and_dreams, splits_of
from test_episodes import contents
from test_normalize import with_marked
from worldmodel.arrays.windows import windows
from worldmodel.core.fingerprint import sha256
from worldmodel.core.student_t import half_width
from worldmodel.model.initialization import new_model
from worldmodel.model.selection import mean_error, predictions
from worldmodel.model.world_model import ENCODERS
from worldmodel.numerics import setup as numerics


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Normalized episodes whose val windows decide nothing: there are none, so that the latest weights are kept."""
    episodes = observed_and_dreams()
    splits = ["train" if split == "val" else split for split in splits_of(episodes)]
    return Project(tmp_path_factory.mktemp("data"), make_train()).write(episodes, splits)


def trained(folder, data, **fields):
    """A training of its own on the same data."""
    project = Project(folder, make_train(**fields))
    shutil.copytree(data.normalized, project.normalized)
    shutil.copy(data.normalizer, project.normalizer)
    project.train()
    return project


def weights(project):
    return (project.trained / "weights.safetensors").read_bytes()


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def series(path, value, *names):
    """step -> value for each series of a plot, which holds these and no others."""
    found = rows(path)
    assert {row["series"] for row in found} == set(names)
    return [{int(row["step"]): float(row[value]) for row in found if row["series"] == name} for name in names]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_same_seed_gives_the_same_bytes_in_every_folder(tmp_path, data, encoder):
    one, same = (trained(tmp_path / folder, data, encoder=encoder) for folder in ("a", "b/c"))
    assert contents(one.trained) == contents(same.trained)
    assert contents(one.plots) == contents(same.plots)
    assert weights(trained(tmp_path / "d", data, encoder=encoder, seed=1)) != weights(one)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_held_out_episode_changes_no_weight_unless_it_selects(tmp_path, split):
    plain, marked = (
        make_project(tmp_path / name, episodes)
        for name, episodes in (("a", observed_and_dreams()), ("b", with_marked(split)))
    )
    for project in (plain, marked):
        project.train()
    assert (weights(plain) == weights(marked)) == (split == "test")


def test_weights_are_selected_on_val_windows(tmp_path, capsys):
    project = make_project(tmp_path, steps=40, lr=0.1)
    manifest = project.train()
    _, errors = series(project.plots / "loss.csv", "loss", "train", "val")
    packed, model = project.read_packed().packed, project.read_trained().model
    held_out = windows(packed, packed.where("val"), 3, 4)
    found = mean_error(model, held_out, torch.device("cpu"))
    assert manifest["selected"]["val_mse"] == pytest.approx(found, rel=1e-5)
    assert f"{found:.4g} on val windows (squared, in standard deviations of" in capsys.readouterr().out
    assert found <= min(errors.values()) * (1 + 1e-5)
    start = new_model(model.shape, packed, packed.where("train"), 0, torch.device("cpu"))
    assert found <= mean_error(start, held_out, torch.device("cpu"))


def test_intervals_are_calibrated_on_val_windows(tmp_path):
    project = make_project(tmp_path, observed_and_dreams(length=30))
    project.train()
    packed, model = project.read_packed().packed, project.read_trained().model
    held_out = windows(packed, packed.where("val"), 3, 4)
    ((batch, prediction),) = predictions(model, held_out, torch.device("cpu"))
    ratio = (batch.features - prediction.features).abs() / prediction.log_std.exp()
    inside = float((ratio <= half_width(model.degrees)).float().mean())
    assert 0.88 <= inside <= 0.97  # few episodes make wide intervals


def test_without_val_episodes_the_latest_weights_are_kept(tmp_path, data):
    project = trained(tmp_path, data, steps=7)
    manifest = project.read_trained().manifest
    assert manifest["selected"] == {"step": 7, "val_mse": None, "floors": {}}
    assert {row["series"] for row in rows(project.plots / "loss.csv")} == {"train"}


def test_the_manifest_says_what_the_weights_depend_on_and_nothing_of_the_machine(tmp_path, data):
    project = trained(tmp_path, data)
    manifest = project.read_trained().manifest
    assert manifest["arguments"] == yaml.safe_load(yaml.safe_dump(vars(project.settings)))
    assert manifest["data"]["normalizer"] == sha256(project.normalizer)
    assert manifest["data"]["arrays"]["features"] == sha256(project.normalized / "features.npy")
    assert manifest["windows"] == {"observed": 36, "dream": 3, "val": 0}
    assert manifest["action_kind"] == "continuous"
    assert manifest["bits"] == numerics.bits(project.settings, torch.device("cpu"))
    text = (project.trained / "manifest.yaml").read_text()
    assert not [word for word in (str(tmp_path), socket.gethostname(), "/", "time", "date") if word in text]


@pytest.mark.parametrize(
    ("fields", "drawn"),
    [
        ({"rho": 0.0}, 0),
        ({"rho": 1.0}, 96),
        ({"rho": 0.3}, 28),  # floor(0.3 * 96)
        ({"rho": 0.5, "rho_start": 0.0, "rho_schedule": "linear"}, 24),
        ({"rho": 0.5, "rho_start": 0.0, "rho_schedule": "cosine"}, 24),
        ({"rho": 0.0, "rho_start": 0.5, "rho_schedule": "linear"}, 24),
        ({"rho": 0.5, "rho_schedule": "constant"}, 48),
    ],
)
def test_dreams_are_drawn_as_often_as_rho_says(tmp_path, data, fields, drawn):
    project = trained(tmp_path, data, **fields)
    assert project.read_trained().manifest["dreams_drawn"] == drawn
    scheduled, shares = series(project.plots / "rho.csv", "rho", "scheduled", "drawn")
    assert list(scheduled) == list(shares) == list(range(1, 13))
    assert sum(share * 8 for share in shares.values()) == pytest.approx(drawn)
    assert abs(sum((shares[step] - scheduled[step]) * 8 for step in shares)) < 1


def test_long_trainings_have_a_hundred_rows_of_rho(tmp_path, data):
    project = trained(tmp_path, data, steps=230, rho=0.3, batch_size=2, z_dim=4, hidden_dim=4)
    scheduled, shares = series(project.plots / "rho.csv", "rho", "scheduled", "drawn")
    assert len(shares) == 100
    assert [min(shares), max(shares)] == [2, 230]
    ends = [0, *shares]
    drawn = [share * 2 * (end - begin) for share, begin, end in zip(shares.values(), ends, ends[1:], strict=False)]
    assert sum(drawn) == pytest.approx(project.read_trained().manifest["dreams_drawn"], rel=1e-4)
    assert set(scheduled.values()) == {0.3}


def test_the_loss_is_logged_about_twenty_times_and_at_the_last_step(tmp_path):
    project = make_project(tmp_path, steps=45)
    project.train()
    for errors in series(project.plots / "loss.csv", "loss", "train", "val"):
        assert list(errors) == [*range(2, 45, 2), 45]
        assert min(errors.values()) > 0


def test_nll_start_changes_nothing_before_it_is_reached(tmp_path, data):
    losses = []
    for share in (0.5, 1.0):
        project = trained(tmp_path / str(share), data, steps=40, nll_start=share)
        losses.append(rows(project.plots / "loss.csv"))
    pairs = list(zip(*losses, strict=True))
    assert all(one == other for one, other in pairs if int(one["step"]) <= 20)
    assert any(one != other for one, other in pairs if int(one["step"]) > 20)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_history_1_horizon_1_and_one_step_of_one_window_are_enough(tmp_path, data, encoder):
    project = trained(tmp_path, data, encoder=encoder, history=1, horizon=1, steps=1, batch_size=1)
    assert torch.isfinite(project.read_trained().model.log_std_offset).all()
    assert [len(rows(project.plots / name)) for name in ("loss.csv", "rho.csv")] == [1, 2]


def test_rho_above_0_needs_dreams_and_rho_0_none(tmp_path):
    project = make_project(tmp_path, observed_and_dreams(dreams=0), rho=0.2)
    with pytest.raises(ValueError, match=r"asks for up to 0\.2 dreams a batch and there is no dream"):
        project.train()
    assert not project.trained.exists()
    assert Project(tmp_path, make_train(rho=0.0)).train()["windows"]["dream"] == 0


def test_confidence_changes_what_dreams_teach_and_only_that(tmp_path, data):
    def run(rho, weighting):
        return weights(trained(tmp_path / f"{rho}{weighting}", data, rho=rho, dream_weighting=weighting))

    assert run(0.5, "none") != run(0.5, "confidence")
    assert run(0.0, "none") == run(0.0, "confidence")


def test_dreams_without_any_confidence_do_not_break_the_weights(tmp_path):
    episodes = [
        e if e.source == "observed" else replace(e, confidence=np.zeros(e.length, np.float32))
        for e in observed_and_dreams()
    ]
    project = make_project(tmp_path, episodes, rho=1.0, dream_weighting="confidence")
    project.train()
    assert all(torch.isfinite(tensor).all() for tensor in project.read_trained().model.state_dict().values())


def test_a_training_that_diverges_says_about_when_and_writes_nothing(tmp_path):
    episodes = [
        each if each.source == "observed" else replace(each, features=each.features * np.float32(1e25))
        for each in observed_and_dreams()
    ]
    project = make_project(tmp_path, episodes, steps=60)
    with pytest.raises(ValueError, match=r"^the training diverged between steps 0 and 3: .*; lower train\.lr, or"):
        project.train()
    assert not project.trained.exists()


def test_other_scales_than_those_of_the_arrays_are_refused(tmp_path, data):
    project = make_project(tmp_path)
    shutil.copy(data.normalizer, project.normalizer)
    with pytest.raises(ValueError, match=r"normalizer\.json: other scales than those of the packed arrays"):
        project.train()


def test_the_clock_is_kept_apart_and_says_of_what(tmp_path, data):
    project = trained(tmp_path, data)
    timing = json.loads(project.clock.read_text())["train"]
    assert set(timing) == {"of", "ms_per_batch", "samples_per_s"}
    assert timing["samples_per_s"] == pytest.approx(1e3 * 8 / timing["ms_per_batch"], rel=1e-4)


def test_the_stage_reads_params_and_arguments(tmp_path, data):
    paths = {"normalized": data.normalized, "normalizer": data.normalizer, "out": tmp_path / "train"}
    paths |= {"plots": tmp_path / "plots", "timing": tmp_path / "timing.json"}
    assert stage("train", tmp_path, {"train": vars(make_train(steps=3)), "validate": {"horizon": 4}}, **paths) == 0
    assert contents(tmp_path / "train") == contents(trained(tmp_path / "other", data, steps=3).trained)
