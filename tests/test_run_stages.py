"""`worldmodel run`: the pipeline without DVC, and the same dvc.lock."""

import re
import subprocess
import sys

import pytest
import yaml

from copies import ENVIRONMENT, ROOT
from scratch import Scratch
from worldmodel.ci.merge_lock import parse

# Everything of DVC's that a stage may be described with here.
PIPELINE = """
stages:
  last:
    cmd: [python src/stage.py last, 'test -x tools/run.sh']
    deps: [made/folder, tools/run.sh, src]
    params: [{other.yaml: }, {third.yaml: [name, deep.down]}]
    metrics: [{made/score.json: {cache: false}}]
    plots: [made/curve.csv]
  first:
    cmd: |-
      mkdir -p made/folder/in/it
      python src/stage.py first
    params: [train.lr, train]
    outs: [{made/folder: {push: false}}, made/a.txt]
"""
STAGE = """
import os, pathlib, sys, yaml
lr = yaml.safe_load(pathlib.Path("params.yaml").read_text())["train"]["lr"]
if lr > 1:
    sys.exit(3)
print("ran", os.environ["DVC_STAGE"], os.environ["DVC_ROOT"] == os.getcwd())
names = {"first": ("made/folder/in/it/b", "made/folder/a", "made/a.txt"), "last": ("made/score.json", "made/curve.csv")}
for name in names[sys.argv[1]]:
    assert not pathlib.Path(name).exists()
    pathlib.Path(name).write_text(f"{lr > 0.5}")
"""


@pytest.fixture(scope="module")
def without_dvc(tmp_path_factory):
    """An environment in which nothing of DVC can be imported."""
    folder = tmp_path_factory.mktemp("blocked")
    (folder / "dvc.py").write_text("raise ImportError('no DVC here')\n")
    environment = ENVIRONMENT | {"PYTHONPATH": f"{folder}:{ROOT / 'src'}"}
    assert subprocess.run(["dvc", "--version"], env=environment, capture_output=True, check=False).returncode
    return environment


def run(project, environment, *arguments):
    """Exit code, the stages that ran, and stderr."""
    command = [sys.executable, "-m", "worldmodel", "run", *arguments]
    done = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, re.findall(r"^(\w+): (?:as recorded|recorded in dvc.lock)$", done.stdout, re.M), done.stderr


def test_it_reaches_the_lock_of_dvc_and_dvc_goes_on_from_there(template, tmp_path, without_dvc):
    template.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = type(template)(tmp_path / "clone")
    for name in ("data/worldmodel", "artifacts/normalizer.json", "artifacts/worldmodel"):
        subprocess.run(["cp", "-r", template.folder / name, (clone.folder / name).parent], check=True)
    assert run(clone, without_dvc)[:2] == (0, ["train"])
    assert clone.read("dvc.lock") == template.read("dvc.lock")
    assert run(clone, without_dvc)[:2] == (0, [])
    clone.run("dvc", "commit", "--quiet")
    assert clone.repro() == (set(), set())
    assert clone.run("dvc", "status") == "Data and pipelines are up to date.\n"


@pytest.fixture
def project(tmp_path):
    made = Scratch(tmp_path / "project")
    (made.folder / "dvc.yaml").write_text(PIPELINE)
    made.write("src/stage.py", STAGE)
    made.write("src/deep/a b.py", "one")
    made.write("src/deep.py", "two")
    made.write("src/deep/__pycache__/x.pyc", "not counted")
    made.write(".dvcignore", (ROOT / ".dvcignore").read_text())
    made.write("tools/run.sh", "")
    (made.folder / "tools/run.sh").chmod(0o755)
    made.write("params.yaml", "train: {lr: 1.0e-08, wide: [1, 2.50], deep: {z: null, a: yes, text: '0100'}}\n")
    made.write("other.yaml", f"long: {'word ' * 30}\nb: 1\na: 2.0\n")
    made.write("third.yaml", "name: x\ndeep: {down: 1}\nunread: 1\n")
    return made


@pytest.mark.dvc
def test_whatever_a_stage_is_described_with_stands_in_the_lock_as_dvc_writes_it(project, without_dvc):
    project.run("dvc", "repro", "--quiet")
    of_dvc = project.read("dvc.lock")
    assert run(project, without_dvc, "--check")[0] == 0
    (project.folder / "dvc.lock").unlink()
    assert run(project, without_dvc) == (0, ["first", "last"], "")
    assert project.read("dvc.lock") == of_dvc
    project.write("params.yaml", project.read("params.yaml").replace("2.50", "2.75"))
    code, _, said = run(project, without_dvc, "--check")
    assert code == 1
    assert "\n  first: params.yaml train.wide\nrun `worldmodel run`" in said
    assert run(project, without_dvc)[:2] == (0, ["first"])  # its outs are as they were
    assert run(project, without_dvc, "last", "--force")[:2] == (0, ["first", "last"])
    changed = parse(project.read("dvc.lock"), project.folder)
    assert changed["last"] == parse(of_dvc, project.folder)["last"]
    assert changed["first"] != parse(of_dvc, project.folder)["first"]


def test_a_stage_that_fails_ends_it_with_its_code_and_it_goes_on_when_called_again(project, without_dvc):
    working = project.read("params.yaml")
    project.write("params.yaml", working.replace("1.0e-08", "2.0"))
    code, ran, said = run(project, without_dvc)
    assert (code, ran) == (3, [])
    assert said == "error: first ended with exit code 3; run this again to go on\n"
    assert not (project.folder / "dvc.lock").exists()
    project.write("params.yaml", working)
    (project.folder / "tools/run.sh").unlink()
    code, ran, said = run(project, without_dvc)
    assert (code, ran) == (1, ["first"]), said
    assert said.startswith("error: tools/run.sh: no such file or folder, which last depends on; ")
    project.write("tools/run.sh", "")
    (project.folder / "tools/run.sh").chmod(0o755)
    assert run(project, without_dvc)[:2] == (0, ["last"])


def test_what_only_dvc_can_run_is_named_before_anything_runs(project, without_dvc):
    stages = yaml.safe_load(PIPELINE)["stages"]
    for change, named in (
        ({"frozen": True}, "stage first has frozen, which only `dvc repro` knows"),
        ({"cmd": "echo ${train.lr}"}, "stage first has ${}, which"),
        ({"deps": ["s3://lake/logs"]}, "stage first has s3://lake/logs, which"),
        ({"outs": [{"made/folder": {"persist": True}}]}, "stage first has persist, which"),
        ({"deps": ["made/score.json"]}, "first needs last needs first; break that circle"),
        ({"params": ["train.nosuch"]}, "params.yaml has no train.nosuch, which"),
    ):
        project.write("dvc.yaml", yaml.safe_dump({"stages": stages | {"first": stages["first"] | change}}))
        code, ran, said = run(project, without_dvc)
        assert (code, ran) == (1, [])
        assert named in said, said
