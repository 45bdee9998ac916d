"""What the Dockerfile installs: how large it is, what it lacks, and that it serves from files that it cannot change."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import psutil
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from copies import ROOT
from serving import PLAIN, serving
from tiny_bundles import write_bundle

NOBODY = 10001


def installed():
    """Distributions of `.[serve]`, with what they need, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {}

    def add(text, extras=("",)):
        needed = Requirement(text)
        name = canonicalize_name(needed.name)
        if name in found or (needed.marker and not any(needed.marker.evaluate({"extra": each}) for each in extras)):
            return
        found[name] = metadata.distribution(name)
        for each in found[name].requires or ():
            add(each, ("", *needed.extras))

    for each in (*project["dependencies"], *project["optional-dependencies"]["serve"]):
        add(each)
    return found


def test_it_installs_less_than_300_mb_and_neither_torch_nor_dvc():
    found = installed()
    assert {"grpcio", "numpy", "onnxruntime", "protobuf", "uvicorn"} <= found.keys()
    assert not {"torch", "dvc", "onnx", "starlette"} & found.keys()
    files = [Path(each.locate_file(file)) for each in found.values() for file in each.files or ()]
    assert sum(file.stat().st_size for file in files if file.is_file()) < 300e6


def test_it_is_no_ones_and_copies_what_there_is():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(rf"^USER {NOBODY}:{NOBODY}$", text, re.M)
    copied = [name for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.M) for name in line.split()]
    kept = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M)
    assert sorted(copied) == sorted(kept)
    assert all((ROOT / name).exists() for name in copied)


@pytest.fixture
def image(tmp_path):
    """The same files in a folder of their own; Python and its packages are mounted there."""
    tmp_path.chmod(0o755)
    for name in ("lib", "python", "site"):
        (tmp_path / name).mkdir()
    shutil.copytree(ROOT / "src/worldmodel", tmp_path / "lib/worldmodel", ignore=shutil.ignore_patterns("__pycache__"))
    for each in installed().values():
        for top in {file.parts[0] for file in each.files or ()} - {"..", "__pycache__"}:
            (tmp_path / "lib" / top).unlink(missing_ok=True)
            (tmp_path / "lib" / top).symlink_to(f"../site/{top}")
    write_bundle(tmp_path / "bundle", texts=PLAIN, context_min=None, context_max=None)
    return tmp_path


READ_ONLY = f"""
mount --bind "$0" /mnt
mount --bind "$1" /mnt/python
mount --bind "$2" /mnt/site
mount -o remount,ro,bind /mnt
shift 2
exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --inh-caps=-all "$@"
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs a user who may mount",
)
def test_another_user_serves_from_files_that_it_cannot_write(image):
    site = Path(np.__file__).parent.parent
    shell = ["unshare", "--mount", "sh", "-ec", READ_ONLY, str(image), sys.base_prefix, str(site)]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    environment = {
        "PYTHONPATH": "/mnt/lib",
        "PYTHONHOME": "/mnt/python",
        "LD_LIBRARY_PATH": "/mnt/python/lib",
        "HOME": "/nonexistent",
        "PATH": os.environ["PATH"],
    }
    write = [*shell, f"/mnt/python/bin/{version}", "-S", "-c", "open('/mnt/lib/new', 'w')"]
    tried = subprocess.run(write, env=environment, capture_output=True, text=True, check=False)
    assert re.search(r"Permission denied|Read-only file system", tried.stderr)
    python = [*shell, f"/mnt/python/bin/{version}", "-S"]
    with serving(Path("/mnt/bundle"), python=python, environment=environment, cwd="/") as served:
        assert psutil.Process(served.process.pid).uids().effective == NOBODY
        status, answer = served.infer("encoder", features=np.zeros((1, 1, 2), np.float32))
        assert (status, answer["model_version"]) == (200, "0" * 12)
        assert served.end() == 0
