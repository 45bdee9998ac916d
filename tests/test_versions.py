import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from copies import ENVIRONMENT
from factories import STAGES
from worldmodel.core import versions
from worldmodel.core.fingerprint import stage_code

ROOT = Path(__file__).resolve().parent.parent
TRACKED = yaml.safe_load((ROOT / "versions.yaml").read_text(encoding="utf-8"))
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]

# library -> the stages whose result it can change
CHANGES = {
    "lmdb": ["prepare"],
    "msgspec": ["dreams", "prepare"],
    "numpy": ["dreams", "prepare", "normalize", "train", "export", "validate"],
    "onnx": ["export", "validate"],
    "onnxruntime": ["validate"],
    "onnxscript": ["export"],
    "pyyaml": ["train", "export"],
    "safetensors": ["train", "export"],
    "torch": ["dreams", "train", "export", "validate"],
}
# imported, and yet no change of a result: they read or check what is given, show something, or say where work runs
READS = {
    "aiohttp",
    "click",
    "fsspec",
    "google",
    "h5py",
    "joblib",
    "lmdb",
    "mcap",
    "mcap_protobuf",
    "mcap_ros2",
    "onnxruntime",
    "psutil",
    "pyarrow",
    "pydantic",
    "pyulog",
    "ray",
    "ruamel",
    "safetensors",
    "threadpoolctl",
    "tqdm",
    "yaml",
    "zstandard",
}


@pytest.mark.parametrize("library", CHANGES)
def test_another_version_reruns_the_stages_that_it_can_change(library):
    listing = [stage for stage, entry in PIPELINE.items() if library in entry["params"][-1]["versions.yaml"]]
    assert listing == CHANGES[library]


def test_no_other_version_is_tracked():
    assert list(TRACKED) == list(CHANGES)


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_imports_is_tracked_or_changes_no_result(stage):
    imported = {name.split(".")[0] for path in stage_code(stage) for name in imports(ROOT / "src" / path)}
    foreign = imported - sys.stdlib_module_names - {"worldmodel"}
    listed = {library for library, stages in CHANGES.items() if stage in stages}
    assert foreign - READS <= listed
    assert listed <= foreign | {"pyyaml", "onnxscript"}  # the module yaml; torch's exporter imports the other


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


def required(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {each.name: each for each in map(Requirement, (line for line in lines if line[:1].isalpha()))}


def test_tracked_versions_are_those_that_are_required():
    found = required("requirements.txt")
    assert {name: str(found[name].specifier).removeprefix("==") for name in TRACKED} == TRACKED


def pinned(folder):
    """The lines of constraints.txt, and name -> version."""
    lines = [line for line in (folder / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return lines, dict(line.split("==") for line in lines)


def test_constraints_hold_all_that_is_required():
    _, versions_of = pinned(ROOT)
    for name, each in (required("requirements.txt") | required("requirements-dev.txt")).items():
        assert each.specifier.contains(versions_of[canonicalize_name(name)]), each


def test_pins_writes_what_is_installed_and_the_tracked_versions_that_are_committed(tmp_path):
    for name in ("scripts/pins.sh", "versions.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run([tmp_path / "scripts/pins.sh"], env=ENVIRONMENT, check=True)
    assert (tmp_path / "versions.yaml").read_bytes() == (ROOT / "versions.yaml").read_bytes()
    lines, versions_of = pinned(tmp_path)
    assert lines == sorted(lines)
    assert {"dvc-data", "sympy", "botocore", "zc-lockfile"} <= set(versions_of)  # of dvc, torch, dvc-s3
    assert not [line for line in lines if "+" in line or line.startswith("nvidia")]
    (tmp_path / "versions.yaml").write_text('unheard-of: "1"\n')
    done = subprocess.run([tmp_path / "scripts/pins.sh"], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "error: versions.yaml names unheard-of, which is not installed" in done.stderr


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
