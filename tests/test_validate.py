import csv
import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from commands import stage
from copies import ROOT
from projects import SPLITS, Project, make_project, make_validate, observed_and_dreams, splits_of
from test_episodes import contents
from worldmodel.arrays.windows import windows
from worldmodel.client import WorldModel
from worldmodel.dreams import rarity
from worldmodel.evaluation import parity as equivalence
from worldmodel.evaluation.scoring import raw_inputs
from worldmodel.evaluation.verdict import REASONS
from worldmodel.model.baselines import FLOORS, fit_linear
from worldmodel.stages.validate import PLOTS

KEYS = {
    *(f"baseline.{name}.{of}" for name in FLOORS for of in ("mse", "log_likelihood")),
    "coverage.h1",
    "coverage.h4",
    "coverage.p90",
    "coverage.worst_feature",
    "disagreement.rank_correlation",
    "discrepancy.mean",
    "discrepancy.worst",
    "dreams.realism",
    "dreams.share",
    "log_likelihood",
    "mse.h1",
    "mse.h4",
    "mse.mean",
    "onnx.equivalent",
    "onnx.max_abs_diff",
    "outside.share",
    "rare.linear_mse",
    "rare.mse",
    "skill.vs_best",
    "skill.vs_linear",
    "skill.vs_persistence",
    *(f"start.{of}" for of in ("mse", "linear_mse", "persistence_mse")),
    "tails.beyond_10",
    "verdict.ok",
    *(f"verdict.{name}" for name in REASONS),
}


def flat(metrics, prefix=""):
    for name, value in metrics.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def read(path):
    return dict(flat(json.loads(path.read_text())))


def beside(project, folder, episodes=None, splits=None):
    """The same bundle in another folder, with packed arrays of its own where episodes are given."""
    found = Project(folder, project.settings)
    shutil.copytree(project.bundles, found.bundles)
    if episodes is None:
        shutil.copytree(project.normalized, found.normalized)
    else:
        found.write(episodes, splits or splits_of(episodes))
    return found


def test_metrics_have_the_keys_that_others_build_on_and_finite_values_of_six_digits(variant):
    found, whole = read(variant.metrics), yaml.safe_load((ROOT / "params.yaml").read_text())
    assert set(found) == KEYS
    assert not KEYS & {name for name, _ in flat(whole)}
    assert all(np.isfinite(value) and float(f"{value:.6g}") == value for value in found.values())
    assert (found["onnx.equivalent"], found["dreams.share"]) == (1, 0.5)
    assert found["onnx.max_abs_diff"] < 1e-5
    for name in ("linear", "persistence"):
        expected = 1 - found["mse.mean"] / found[f"baseline.{name}.mse"]
        assert found[f"skill.vs_{name}"] == pytest.approx(expected, abs=1e-5)
    timing = json.loads(variant.clock.read_text())
    assert set(timing) == {"train", "inference"}
    assert timing["inference"]["of"] == variant.bundle.name


def test_the_error_is_that_of_every_test_window_predicted_one_by_one(project):
    model, scaler, held_out = project.client(), project.scaler, project.held_out()
    errors = []
    for number in range(len(held_out)):
        batch = held_out.take(np.array([number]))
        history, past, plan, *_ = (part[0] for part in raw_inputs(batch, scaler))
        predicted = scaler.features.transform(model.predict(model.encode(history, past), plan).features)
        errors.append(np.square(predicted - batch.features[0]).mean(axis=1)[batch.weight[0] > 0])
    found = read(project.metrics)
    assert found["mse.mean"] == pytest.approx(np.concatenate(errors).mean(), rel=1e-4)
    assert found["mse.h1"] == pytest.approx(np.mean([error[0] for error in errors]), rel=1e-4)
    assert found["mse.h4"] == pytest.approx(np.mean([error[3] for error in errors]), rel=1e-4)


def test_a_start_knows_the_first_frame_of_a_test_episode_alone(project):
    model, scaler, packed, settings = project.client(), project.scaler, project.read_packed().packed, project.settings
    errors = {name: [] for name in ("mse", "persistence_mse")}
    for episode in packed.where("test"):
        rows = packed.rows(episode)
        frames, actions = packed.features[rows][: settings.horizon + 1], packed.actions[rows][: settings.horizon]
        first = np.repeat(scaler.features.inverse(frames[:1]), settings.history, axis=0)
        z = model.encode(first, np.zeros((settings.history - 1, model.action_count)))
        predicted = scaler.features.transform(model.predict(z, scaler.actions.inverse(actions)).features)
        errors["mse"].append(np.square(predicted - frames[1:]).mean())
        errors["persistence_mse"].append(np.square(frames[0] - frames[1:]).mean())
    for name, values in errors.items():
        assert read(project.metrics)[f"start.{name}"] == pytest.approx(np.mean(values), rel=1e-3)


def test_the_floors_are_hold_last_and_the_ridge_of_the_observed_train_episodes(project):
    packed, held_out = project.read_packed().packed, project.held_out()
    rows = [packed.rows(episode) for episode in packed.where("train")]
    ridge = fit_linear([packed.features[row] for row in rows], [packed.actions[row] for row in rows])
    batch = held_out.take(np.arange(len(held_out)))
    last, exists = batch.history[:, -1], batch.weight > 0
    for name, predicted in (("linear", ridge.rollout(last, batch.planned_actions)), ("persistence", last[:, None])):
        error = np.square(predicted - batch.features)[exists].mean()
        assert read(project.metrics)[f"baseline.{name}.mse"] == pytest.approx(error, rel=1e-5)


def test_the_same_inputs_give_the_same_bytes(project, tmp_path):
    again = beside(project, tmp_path)
    again.validate()
    assert again.metrics.read_bytes() == project.metrics.read_bytes()
    before, after = contents(project.plots), contents(again.plots)
    assert set(after) == {f"{name}.csv" for name in PLOTS}
    assert {name: before[name] for name in after} == after


def test_only_test_episodes_are_scored(project, tmp_path):
    episodes = observed_and_dreams()
    doubled = [*episodes, *observed_and_dreams(seed=1)[-3:]]  # more dreams change nothing that is measured of the model
    names = [f"dream-{n}" if e.source == "dream" else e.name for n, e in enumerate(doubled)]
    changed = beside(project, tmp_path, [replace(e, name=name) for e, name in zip(doubled, names, strict=True)])
    changed.validate()
    found, before = read(changed.metrics), read(project.metrics)
    assert found.pop("dreams.realism") != before.pop("dreams.realism")
    assert found == before


def test_the_rare_slice_is_the_tenth_of_the_test_windows_that_is_farthest_from_train_windows(project):
    packed, held_out = project.read_packed().packed, project.held_out()
    train = windows(packed, packed.where("train"), held_out.history, held_out.horizon)
    batch = held_out.at(rarity.rarest(train, held_out)).take(np.arange(1))  # the tenth of 12 windows is one
    assert len(held_out) == 12
    model, exists = project.client(), batch.weight > 0
    predicted = project.scaler.features.transform(model.predict(*encoded(model, batch, project.scaler)).features)
    assert read(project.metrics)["rare.mse"] == pytest.approx(
        np.square(predicted - batch.features)[exists].mean(), 1e-3
    )
    rows = [packed.rows(episode) for episode in packed.where("train")]
    ridge = fit_linear([packed.features[row] for row in rows], [packed.actions[row] for row in rows])
    error = np.square(ridge.rollout(batch.history[:, -1], batch.planned_actions) - batch.features)[exists].mean()
    assert read(project.metrics)["rare.linear_mse"] == pytest.approx(error, rel=1e-4)


def encoded(model, batch, scaler):
    history, past, plan, *_ = raw_inputs(batch, scaler)
    return model.encode(history, past), plan


def test_without_dreams_there_is_no_realism_and_an_empty_plot(project, tmp_path, capsys):
    found = beside(project, tmp_path, [each for each in observed_and_dreams() if each.source == "observed"])
    found.validate()
    assert set(read(found.metrics)) == KEYS - {"dreams.realism"}
    assert {row["windows"] for row in read_rows(found.plots / "realism.csv")} == {"0"}
    assert "tells dreams from reality" not in capsys.readouterr().out


def test_an_agent_counts_as_much_as_its_episodes_and_not_their_windows(project):
    agents, found = read_rows(project.plots / "agents.csv"), read(project.metrics)
    errors = [float(agent["model"]) for agent in agents]
    assert {agent["agent"] for agent in agents} == {"agent-0", "agent-1"}
    assert found["discrepancy.mean"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert found["discrepancy.worst"] == pytest.approx(max(errors), rel=1e-4)


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_val_and_test_episode_has_its_own_errors(variant):
    labels = variant.read_packed().packed.labels
    found = read_rows(variant.plots / "episodes.csv")
    assert [(row["split"], row["agent_id"], row["episode"]) for row in found] == sorted(
        (split, agent, name)
        for split, agent, name, source in zip(labels.splits, labels.agents, labels.names, labels.sources, strict=True)
        if source == "observed" and split != "train"
    )
    tests = [row for row in found if row["split"] == "test"]
    assert sum(int(row["windows"]) for row in tests) == len(variant.held_out())
    weight = [int(row["windows"]) for row in tests]
    for column, name in (("model", "mse.mean"), ("linear", "baseline.linear.mse")):
        mean = np.average([float(row[column]) for row in tests], weights=weight)
        assert mean == pytest.approx(read(variant.metrics)[name], rel=1e-4)


def test_val_episodes_are_measured_as_test_episodes_are(project, tmp_path):
    episodes, splits = both()
    exchanged = {"val": "test", "test": "val", "train": "train"}
    found = beside(project, tmp_path, episodes, [exchanged[split] for split in splits])
    found.validate()
    shown = [
        {(row["split"], row["episode"]): row["model"] for row in read_rows(each.plots / "episodes.csv")}
        for each in (project, found)
    ]
    assert shown[1] == {(exchanged[split], name): error for (split, name), error in shown[0].items()}
    assert read(found.metrics)["mse.mean"] != read(project.metrics)["mse.mean"]


def test_the_plot_of_predictions_is_of_the_worst_agents_worst_episode(variant):
    worst = read_rows(variant.plots / "agents.csv")[0]
    found = read_rows(variant.plots / "predicted.csv")
    assert {(row["agent"], row["episode"]) for row in found} == {(worst["agent"], worst["worst_episode"])}


def test_a_shorter_horizon_measures_the_beginning(project, tmp_path):
    short = beside(project, tmp_path)
    short.validate(horizon=1)
    assert [row["frame"] for row in read_rows(short.plots / "horizon.csv")] == ["1"] * 5
    assert set(read(short.metrics)) == KEYS - {"coverage.h4", "mse.h4"}


def test_a_longer_horizon_than_that_of_a_bundle_without_plans_is_refused(projects, tmp_path):
    with pytest.raises(
        ValueError, match=r"validate\.horizon is 5, and a bundle without actions and context predicts .* 4"
    ):
        beside(projects("transformer"), tmp_path).validate(horizon=5)


def test_a_longer_horizon_than_the_trained_one_is_measured_too(project, tmp_path):
    longer = beside(project, tmp_path)
    longer.validate(horizon=8)
    assert [row["frame"] for row in read_rows(longer.plots / "horizon.csv")] == [*map(str, range(1, 9))] * 5
    found, before = read(longer.metrics), read(project.metrics)
    assert set(found) == KEYS | {"mse.h8", "coverage.h8"}
    assert found["onnx.equivalent"] == 1
    assert found["mse.h1"] != before["mse.h1"]  # of other windows


def test_endings_are_measured_where_test_episodes_have_some(tmp_path, capsys):
    episodes = [replace(e, terminal=number % 2 == 0) for number, e in enumerate(observed_and_dreams())]
    found = make_project(tmp_path, episodes)
    found.train()
    found.export()
    capsys.readouterr()
    found.validate()
    metrics, told = read(found.metrics), capsys.readouterr().out
    assert set(metrics) == KEYS | {f"termination.{name}" for name in ("auc", "brier", "share")}
    packed, held_out = found.read_packed().packed, found.held_out()
    batch, model = held_out.take(np.arange(len(held_out))), found.client()
    exists, told_of = batch.weight > 0, model.predict(*encoded(model, batch, found.scaler)).termination
    assert sorted(packed.terminal[packed.where("test")]) == [False, True]
    assert len(held_out) == 6 + 9
    assert metrics["termination.share"] == pytest.approx(batch.ended[exists].mean(), rel=1e-5)
    assert metrics["termination.brier"] == pytest.approx(np.square(told_of - batch.ended)[exists].mean(), rel=1e-3)
    assert f"endings: AUC {metrics['termination.auc']:.3f}" in told
    rows = read_rows(found.plots / "termination.csv")
    assert sum(int(row["windows"]) for row in rows) == exists.sum()
    rest = beside(found, tmp_path / "rest", [replace(e, terminal=False) for e in episodes])
    rest.validate()
    assert set(read(rest.metrics)) == KEYS
    assert (rest.plots / "termination.csv").read_text() == "predicted,observed,windows\n"


def test_test_episodes_shorter_than_the_horizon_are_measured_as_far_as_they_go(tmp_path, project):
    episodes = [cut(e, 5) if split == "test" else e for e, split in zip(*both(), strict=True)]
    found = beside(project, tmp_path, episodes)
    found.validate()
    assert set(read(found.metrics)) == KEYS - {"coverage.h4", "mse.h4"}
    assert [row["frame"] for row in read_rows(found.plots / "horizon.csv")] == ["1", "2"] * 5


def both():
    episodes = observed_and_dreams()
    return episodes, splits_of(episodes)


def cut(episode, length):
    arrays = ("timestamps", "features", "actions", "rewards")
    return replace(episode, **{name: getattr(episode, name)[:length] for name in arrays})


@pytest.mark.parametrize("length", [3, 1])
def test_no_test_episode_longer_than_the_history_is_an_error(project, tmp_path, length):
    episodes = [cut(e, length) if split == "test" else e for e, split in zip(*both(), strict=True)]
    with pytest.raises(ValueError, match=r"no observed test episode has more than 3 frames: .*prepare\.test_share"):
        beside(project, tmp_path, episodes).validate()


def test_one_test_episode_is_enough(project, tmp_path):
    episodes, splits = both()
    one = ["train" if number == SPLITS.index("test") else split for number, split in enumerate(splits)]
    with pytest.raises(ValueError, match="other scales"):
        beside(project, tmp_path / "other", episodes, one).validate()
    val = ["val" if number == SPLITS.index("test") else split for number, split in enumerate(splits)]
    found = beside(project, tmp_path / "one", episodes, val)
    found.validate()
    assert [row["split"] for row in read_rows(found.plots / "episodes.csv")] == ["test", "val", "val", "val"]
    assert read(found.metrics)["discrepancy.mean"] == read(found.metrics)["discrepancy.worst"]


def test_without_val_episodes_the_test_episodes_stand_alone(project, tmp_path):
    episodes = [each for each, split in zip(*both(), strict=True) if split != "val"]
    splits = [split for split in splits_of(observed_and_dreams()) if split != "val"]
    found = beside(project, tmp_path, episodes, splits)
    found.validate()
    assert [row["split"] for row in read_rows(found.plots / "episodes.csv")] == ["test", "test"]
    assert found.metrics.read_bytes() == project.metrics.read_bytes()


def test_arrays_in_other_units_than_the_bundles_are_refused(project, tmp_path):
    found = beside(project, tmp_path, observed_and_dreams())
    found.write(observed_and_dreams(), splits_of(observed_and_dreams()), method="minmax")
    with pytest.raises(ValueError, match=r"normalizer\.json: other scales than those of the packed arrays"):
        found.validate()
    assert not found.metrics.exists()


DAMAGES = [lambda path: None, Path.mkdir, os.mkfifo, lambda path: path.write_bytes(b"")]


@pytest.mark.parametrize("name", ["encoder.onnx", "predictor.onnx", "normalizer.json", "weights.safetensors"])
def test_a_file_of_a_bundle_that_is_not_as_it_was_exported_is_named(project, projects, tmp_path, name):
    other = projects("gru").bundle / name
    found = beside(project, tmp_path)
    path = found.bundle / name
    whole = path.read_bytes()
    contents = [whole[:-1], whole[: len(whole) // 2], whole[:-1] + bytes([whole[-1] ^ 1]), other.read_bytes()]
    for damage in [*DAMAGES, *(partial(Path.write_bytes, data=content) for content in contents)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        damage(path)
        with pytest.raises(ValueError, match=rf"^\S*(/{name}|: no {name}).*`dvc repro export`$"):
            found.validate()


def test_a_bundle_without_its_card_or_manifest_is_refused(project, tmp_path):
    found = beside(project, tmp_path)
    for name, message in (("README.md", "README.md: no such file"), ("manifest.yaml", "manifest.yaml: no such file")):
        (found.bundle / name).unlink()
        with pytest.raises(ValueError, match=message):
            found.validate()


def test_a_difference_beyond_the_tolerance_is_told_and_does_not_stop_it(project, tmp_path, capsys, monkeypatch):
    found = beside(project, tmp_path)
    monkeypatch.setattr(equivalence, "largest_difference", lambda *_: 2e-3)
    found.validate(tolerance=1e-3)
    assert read(found.metrics)["onnx.equivalent"] == 0
    assert "ONNX DIFFERS FROM TORCH within" in capsys.readouterr().out


def test_the_interval_that_was_learned_is_told_where_it_is_known(project, tmp_path, monkeypatch):
    known = replace(project.client(), interval_s=0.25)
    monkeypatch.setattr(WorldModel, "load", lambda bundle: known)
    found = beside(project, tmp_path)
    found.validate()
    assert read(found.metrics) == read(project.metrics) | {"interval_s": 0.25}


def test_a_model_without_noise_in_its_data_is_measured_too(tmp_path):
    """Nothing ever changes: every floor is perfect, and every metric still a number."""
    still = [replace(e, features=np.full_like(e.features, 3)) for e in observed_and_dreams()]
    project = make_project(tmp_path, still, steps=2)
    project.train()
    project.export()
    project.validate()
    found = read(project.metrics)
    assert found["mse.mean"] == found["baseline.persistence.mse"] == 0
    assert found["skill.vs_persistence"] == 0


def test_the_stage_reads_params_and_arguments(project, tmp_path, capsys):
    paths = {"bundles": project.bundles, "normalized": project.normalized, "plots": tmp_path / "plots"}
    paths |= {"out": tmp_path / "metrics.json", "timing": tmp_path / "timing.json"}
    assert stage("validate", tmp_path, {"validate": vars(make_validate())}, **paths) == 0
    assert (tmp_path / "metrics.json").read_bytes() == project.metrics.read_bytes()
    told = capsys.readouterr().out
    (first, *reasons), metrics = read_rows(tmp_path / "plots/verdict.csv"), read(project.metrics)
    assert told.startswith(f"verdict: {first['text']}\n")
    assert {row["reason"]: int(row["holds"]) for row in (first, *reasons)} == {
        name: metrics[f"verdict.{name}"] for name in ("ok", *REASONS)
    }
    assert metrics["verdict.too_few_episodes"] == 1  # two test episodes
    assert all(f"- {row['text']}\n" in told for row in reasons if row["text"])
    assert f"bundle: {project.bundle}" in told
    assert "a classifier tells dreams from reality with AUC" in told
    assert (
        f"{read(project.metrics)['outside.share']:.2%} of the test frames are outside of the range of the train" in told
    )
    worst, *_ = read_rows(project.plots / "features.csv")
    row = next(line.split() for line in told.splitlines() if line.startswith(f"{worst['feature']} "))
    assert {f"{float(worst['model']):.3g}", f"{float(worst['skill']):.1%}", f"{float(worst['held']):.1%}"} <= set(row)
