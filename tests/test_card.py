import re
from dataclasses import replace

import pytest

from projects import export_stage
from worldmodel.arrays.affine import identity
from worldmodel.export.card import model_card


def card(variant):
    return (variant.bundle / "README.md").read_text()


def test_shapes_are_those_of_the_graphs(variant):
    model = variant.client()
    text = card(variant)
    for name, session in (("encoder", model.encoder), ("predictor", model.predictor)):
        line = next(line for line in text.splitlines() if line.startswith(f"| {name}.onnx"))
        told = re.findall(r"(\w+) \[([^\]]*)\]", line)
        real = [*session.get_inputs(), *session.get_outputs()]
        assert told == [(node.name, ", ".join(map(str, node.shape))) for node in real]


def test_its_example_is_one_that_runs(variant):
    model = variant.client()
    calls = re.findall(r"model\.(encode|predict)\((.*)\)", card(variant))
    past = ["features", "actions"] if model.action_count and model.history > 1 else ["features"]
    assert dict(calls) == {"encode": ", ".join(past), "predict": "z, plan" if model.action_count else "z"}


def test_it_says_which_bundle_it_is_what_it_learned_from_and_what_it_is_for(variant):
    manifest, settings, text = variant.read_trained().manifest, export_stage(variant.settings), card(variant)
    shape = manifest["shape"]
    actions = f" and {shape['actions']} actions" if shape["actions"] else ""
    assert text.startswith(f"# World model {variant.bundle.name}\n")
    for said in (
        f"{manifest['windows']['observed']} observed and {manifest['windows']['dream']} dreamed windows",
        "50.0% of what was drawn were dreams (constant rho,\n  ending at 0.5)",
        f"Weights of step {manifest['selected']['step']} were kept",
        f"to draw from, of {shape['features']} features{actions} a frame.\n",
        f"Dreams by `{settings.dreams.source}`",
        f"Split by {settings.prepare.split_by}:",
        f"Comparing plans of about {shape['horizon']} frames",
        f"in standard deviations of the observed train frames: {manifest['selected']['val_mse']:.4g}, the one they",
    ):
        assert said in text


def test_what_training_measured_is_in_units_of_the_method_that_scaled_its_arrays(project):
    scaler = replace(project.scaler, method="minmax")
    text = model_card("abc", project.read_trained(), scaler, export_stage(project.settings))
    assert "in halves of the range of the observed train frames: " in text


def test_nothing_is_claimed_of_validation_windows_that_do_not_exist(project):
    trained = project.read_trained()
    trained.manifest["windows"]["val"] = 0
    trained.manifest["selected"] = {"step": 12, "val_mse": None}
    text = model_card("abc", trained, project.scaler, export_stage(project.settings))
    assert "validation windows" not in text
    assert "no validation episode to measure it on" in text


@pytest.mark.parametrize(
    ("selected", "said"),
    [
        ({"step": 12, "val_mse": 0.1}, ""),
        ({"step": 0, "val_mse": 0.1}, "**Training improved nothing: use ridge.**"),
        ({"step": 12, "val_mse": 0.1, "floors": {"linear": 0.2, "persistence": 0.15}}, "hold-last 0.15, ridge 0.2."),
        (
            {"step": 12, "val_mse": 0.1, "floors": {"linear": 0.2, "persistence": 0.1}},
            "improved nothing: use hold-last.",
        ),
        (
            {"step": 0, "val_mse": 0.1, "floors": {"linear": 0.2}},
            "nothing: the model is its start, the best floor of each feature.**",
        ),
    ],
)
def test_it_says_whether_training_beat_the_floors(project, selected, said):
    trained = project.read_trained()
    trained.manifest["selected"] = selected
    text = model_card("abc", trained, project.scaler, export_stage(project.settings))
    assert said in text
    assert ("improved nothing" in text) == ("nothing" in said)


@pytest.mark.parametrize("kind", ["none", "discrete", "continuous"])
def test_it_says_how_actions_are_meant(project, kind):
    trained = project.read_trained()
    trained.manifest["action_kind"] = kind
    text = model_card("abc", trained, project.scaler, export_stage(project.settings))
    assert ("one-hot" in text) == (kind == "discrete")
    assert ("leads from its frame to the next" in text) == (kind != "none")


def test_it_names_the_columns_the_interval_and_what_may_be_missing(project):
    trained, settings = project.read_trained(), export_stage(project.settings)
    assert "Every reading must be there" in model_card("abc", trained, project.scaler, settings)
    trained.manifest["columns"] = {"features": [{"name": "a|b", "unit": "degrees", "kind": "angle"}]}
    trained.manifest["interval_s"] = 0.05
    trained.model.shape = replace(trained.model.shape, masked=True)
    scaler = replace(project.scaler, context=identity(2))
    text = model_card("abc", trained, scaler, settings)
    for said in (
        "| feature | name | unit | kind |\n|---|---|---|---|\n| 0 | `a\\|b` | degrees | angle |\n",
        "sampling interval of its logs (0.05 s)",
        "A reading may be missing: give NaN",
        "`context` is known ahead",
        "model.encode(features, actions, context=context)",
        "model.predict(z, plan, context=context_ahead)",
        "3 actions and 2 numbers of context a frame",
    ):
        assert said in text
