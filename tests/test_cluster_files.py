"""examples/cluster: files for launchers, and the pipeline on machines that are taken away."""

import json
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest
import yaml

from copies import ENVIRONMENT, ROOT
from scratch import STAGE, Scratch
from worldmodel.checkpoints import remote

FOLDER = ROOT / "examples/cluster"
# The machine of this one is taken away.
DYING = """
import os, signal
if pathlib.Path.cwd().name == "one":
    os.killpg(0, signal.SIGKILL)
"""


def test_what_the_launchers_are_given_is_as_they_want_it_and_names_what_is_there():
    ray, sky = (yaml.safe_load((FOLDER / name).read_text(encoding="utf-8")) for name in ("ray.yaml", "sky.yaml"))
    schema = Path(find_spec("ray").origin).parent / "autoscaler/ray-schema.json"
    jsonschema.validate(ray, json.loads(schema.read_text(encoding="utf-8")))
    assert ray["head_node_type"] in ray["available_node_types"]
    scripts = [sky["setup"], sky["run"], *(line for key in ray if key.endswith("_commands") for line in ray[key])]
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        named = [word for word in script.split() if word.endswith((".txt", ".py"))]
        assert all((ROOT / name).is_file() for name in named)


@pytest.mark.dvc
def test_a_machine_goes_on_where_another_was_taken_away_and_ones_own_gets_it_all(server, client, tmp_path):
    home = Scratch(tmp_path / "home")
    home.write("src/stage.py", STAGE.replace('elif name == "export":', f'elif name == "export":{indented(DYING)}'))
    home.run("dvc", "remote", "add", "--default", "storage", "s3://team/worldmodel")
    home.run("dvc", "remote", "modify", "storage", "endpointurl", server.endpoint)
    home.run("dvc", "repro", "--quiet")
    home.commit("as it was")
    home.set_rho(0.4)
    home.commit("to be run")
    one, other = home.cloned(tmp_path / "one"), home.cloned(tmp_path / "other")

    def run(machine):
        variables = (
            ENVIRONMENT | client | {remote.VARIABLE: "s3://team/worldmodel/kept", "PYTHONPATH": str(ROOT / "src")}
        )
        command = [sys.executable, FOLDER / "on_spot.py"]
        done = subprocess.run(
            command,
            cwd=machine.folder,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        return done.returncode, [line for line in done.stdout.splitlines() if line.startswith("Running stage")]

    assert run(one)[0] == -signal.SIGKILL
    assert run(other) == (0, ["Running stage 'export':", "Running stage 'validate':"])
    assert run(home) == (0, [])
    for machine in (other, home):
        assert json.loads(machine.read("artifacts/metrics.json"))["mse"]["mean"] == 0.4
    assert home.read("dvc.lock") == other.read("dvc.lock")
    assert home.run("dvc", "status") == "Data and pipelines are up to date.\n"
    assert home.read("artifacts/train") == "0.4"


def indented(code: str) -> str:
    return code.replace("\n", "\n    ")
