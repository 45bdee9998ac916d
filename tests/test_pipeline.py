"""The pipeline under DVC: what reruns, what is a cache hit, what stays the same."""

import json

import yaml

from copies import ROOT
from factories import STAGES


def test_the_first_run_leaves_a_bundle_and_finite_metrics(template):
    bundles = list((template.folder / "artifacts/worldmodel").iterdir())
    assert [len(bundle.name) for bundle in bundles] == [12]
    assert {path.name for path in bundles[0].iterdir()} == {
        "README.md",
        "encoder.onnx",
        "step.onnx",
        "manifest.yaml",
        "normalizer.json",
        "params.yaml",
        "policy.safetensors",
        "predictor.onnx",
        "prior.onnx",
        "value.onnx",
        "weights.safetensors",
    }
    metrics = json.loads(template.read("artifacts/metrics.json"))
    assert metrics["onnx"]["equivalent"] == 1
    assert metrics["dreams"]["share"] == 0.5


def test_another_rho_reruns_three_stages_and_going_back_none(copy):
    metrics, lock = copy.read("artifacts/metrics.json"), copy.read("dvc.lock")
    copy.set_train(rho=0.25)
    assert copy.repro() == ({"train", "export", "validate"}, set())
    diff = json.loads(copy.run("dvc", "metrics", "diff", "--json"))
    assert diff["artifacts/metrics.json"]["dreams.share"] == {"old": 0.5, "new": 0.25, "diff": -0.25}
    copy.set_train(rho=0.5)
    assert copy.repro() == (set(), {"train", "export", "validate"})
    assert copy.repro() == (set(), set())
    assert copy.read("artifacts/metrics.json") == metrics
    assert copy.read("dvc.lock") == lock


def test_dvc_sees_what_an_edit_makes_stale_and_a_stage_names_a_param_that_is_wrong(copy):
    def stale(name, before, after):
        text = copy.read(name)
        assert before in text
        copy.write(name, text.replace(before, after, 1))
        seen = json.loads(copy.run("dvc", "status", "--json"))
        copy.write(name, text)
        return [stage for stage in STAGES if stage in seen]

    torch = yaml.safe_load((ROOT / "versions.yaml").read_text(encoding="utf-8"))["torch"]
    assert stale("versions.yaml", torch, "9.9.9") == ["dreams", "train", "export", "validate"]
    assert stale("src/worldmodel/store/prepared.py", "import", "import ") == ["prepare", "normalize"]
    assert stale("src/worldmodel/cli/__init__.py", "import", "import ") == []
    assert stale("params.yaml", "opset: 20", "opset: 21") == ["export"]
    copy.write("params.yaml", copy.read("params.yaml").replace("rho_schedule: constant", "rho_schedule: constnat"))
    said = copy.refused("dvc", "repro")
    assert "train.rho_schedule: found 'constnat', expected 'constant', 'linear' or 'cosine'" in said
    assert "Traceback" not in said
