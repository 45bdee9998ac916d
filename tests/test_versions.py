import sys
from pathlib import Path

import pins
import pytest
import torch
import yaml

from factories import STAGES
from worldmodel.core import versions
from worldmodel.core.fingerprint import _imports, import_closure

ROOT = Path(__file__).resolve().parent.parent
TRACKED = yaml.safe_load((ROOT / "versions.yaml").read_text(encoding="utf-8"))
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]

# library -> the stages whose result it can change
CHANGES = {
    "lmdb": ["prepare"],
    "numba": ["dreams", "prepare"],
    "numpy": ["dreams", "prepare", "normalize", "train", "export", "validate"],
    "onnx": ["export", "validate"],
    "onnxruntime": ["validate"],
    "onnxscript": ["export"],
    "pyyaml": ["train", "export"],
    "safetensors": ["train", "export"],
    "torch": ["dreams", "train", "export", "validate"],
}
# imported, and yet no change of a result: they read or check what is given, show something, or set a number of threads
READS = {"pydantic", "tqdm", "yaml", "safetensors", "onnxruntime", "lmdb", "fsspec", "threadpoolctl"}


@pytest.mark.parametrize("library", CHANGES)
def test_another_version_reruns_the_stages_that_it_can_change(library):
    listing = [stage for stage, entry in PIPELINE.items() if library in entry["params"][-1]["versions.yaml"]]
    assert listing == CHANGES[library]


def test_no_other_version_is_tracked():
    assert list(TRACKED) == list(CHANGES)


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_imports_is_tracked_or_changes_no_result(stage):
    closure = import_closure(ROOT / "src" / f"{stage}.py")
    imported = {name.split(".")[0] for path in closure for name in _imports(path)}
    foreign = {name for name in imported - sys.stdlib_module_names if not list((ROOT / "src").glob(f"{name}*"))}
    listed = {library for library, stages in CHANGES.items() if stage in stages}
    assert foreign - READS <= listed
    assert listed <= foreign | {"pyyaml", "onnxscript"}  # the module yaml; torch's exporter imports the other


def test_tracked_versions_are_those_that_are_required():
    required = {each.name: str(each.specifier).removeprefix("==") for each in pins.required(ROOT)}
    assert {name: required[name] for name in TRACKED} == TRACKED


def test_constraints_hold_all_that_is_required_and_what_that_brings_along():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert list(pinned) == sorted(pinned)
    for each in pins.required(ROOT):
        assert each.specifier.contains(pinned[pins.canonicalize_name(each.name)]), each
    assert {"dvc-data", "sympy", "botocore"} <= set(pinned)  # of dvc, torch, dvc-s3
    assert not [line for line in lines if "+" in line or line.startswith("nvidia")]


def test_pins_writes_what_is_committed(tmp_path):
    for name in (*pins.REQUIREMENTS, "dvc.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    pins.main(["--root", str(tmp_path)])
    assert (tmp_path / "versions.yaml").read_bytes() == (ROOT / "versions.yaml").read_bytes()


def test_other_versions_than_tracked_are_refused_with_what_to_do(tmp_path):
    tracked = tmp_path / "versions.yaml"
    tracked.write_text('numpy: "1.0"\ntorch: "' + torch.__version__.split("+")[0] + '"\n')
    versions.require(["torch"], tracked)
    expected = (
        r"versions\.yaml: found numpy 2\S* \(expected 1\.0\); "
        r"`pip install -r requirements\.txt -c constraints\.txt` installs .* run `make pins`$"
    )
    with pytest.raises(ValueError, match=expected):
        versions.require(["numpy", "torch"], tracked)
    with pytest.raises(ValueError, match=r"found onnx \S+ \(expected None\)"):
        versions.require(["onnx"], tracked)


def test_installed_versions_have_no_local_part():
    assert versions.installed(["torch"]) == {"torch": torch.__version__.split("+")[0]}
