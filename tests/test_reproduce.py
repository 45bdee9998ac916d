import shutil
import subprocess
import sys

import pytest

from copies import ENVIRONMENT
from projects import make_project, observed_and_dreams
from worldmodel.ci import reproduce
from worldmodel.ci.reproduce import Row, judge, largest_difference

PIPELINE = """stages:
  export:
    cmd: mkdir -p artifacts && cp -r bundles/$WHICH artifacts/worldmodel
    outs: [artifacts/worldmodel]
  validate:
    cmd: wc -c artifacts/worldmodel/*/* > size.txt
    deps: [artifacts/worldmodel]
    outs: [size.txt]
"""


@pytest.fixture(scope="module")
def bundles(project, tmp_path_factory):
    """a; b: of other data, and so of other weights; c: of the same weights with another model card."""
    folder = tmp_path_factory.mktemp("bundles")
    other = make_project(folder / "other", observed_and_dreams(seed=1))
    other.train()
    other.export()
    for name, source in (("a", project), ("b", other), ("c", project)):
        shutil.copytree(source.bundles, folder / name)
    with next((folder / "c").iterdir()).joinpath("README.md").open("a") as file:
        file.write("more")
    shutil.rmtree(folder / "other")
    return folder


@pytest.fixture(scope="module")
def committed(bundles, tmp_path_factory):
    """A project whose export takes the bundle that the environment names; committed with a."""
    folder = tmp_path_factory.mktemp("committed")
    shutil.copytree(bundles, folder / "bundles")
    (folder / "dvc.yaml").write_text(PIPELINE)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    for command in (
        ["git", "init", "--quiet"],
        ["dvc", "init", "--quiet"],
        ["dvc", "repro", "--quiet"],
        ["git", "add", "--all"],
        ["git", *identity, "commit", "--quiet", "--message", "state"],
    ):
        subprocess.run(command, cwd=folder, env=ENVIRONMENT | {"WHICH": "a"}, check=True, stdout=subprocess.DEVNULL)
    return folder


def receipt(project, capsys):
    with pytest.raises(SystemExit) as end:
        reproduce.command.main(["--project", str(project)], standalone_mode=False)
    return end.value.code, capsys.readouterr().out.splitlines()


def test_the_same_bits_are_a_receipt_with_exit_code_0(committed, capsys, monkeypatch):
    monkeypatch.setenv("WHICH", "a")
    code, (header, *rows, verdict) = receipt(committed, capsys)
    assert header.split("  ")[0] == "stage"
    assert [(row.split()[:3], row.split()[-1]) for row in rows] == [
        (["export", "yes", "artifacts/worldmodel"], "yes"),
        (["validate", "yes", "size.txt"], "yes"),
    ]
    assert rows[0].split()[3] == rows[0].split()[4]
    assert (verdict, code) == ("all 2 outs are equal, bit by bit", 0)


def test_other_bits_are_told_with_how_far_predictions_are_apart(committed, bundles, capsys, monkeypatch):
    monkeypatch.setenv("WHICH", "b")
    code, (_, *rows, verdict) = receipt(committed, capsys)
    assert rows[0].split()[-1] == "NO"
    apart = largest_difference(bundles / "a", bundles / "b")
    assert verdict.endswith(f"by at most {apart:.2g} standardized units, beyond the tolerance of 0.01")
    assert code == 1


@pytest.mark.parametrize(("which", "tolerance", "code"), [("c", 0.0, 2), ("b", 1e6, 2), ("b", 1e-6, 1)])
def test_the_exit_code_follows_from_the_predictions(committed, bundles, tmp_path, monkeypatch, which, tolerance, code):
    monkeypatch.setattr(
        reproduce, "_run", lambda command, folder: shutil.copytree(bundles / "a", tmp_path / "committed")
    )
    clone = tmp_path / "clone"
    shutil.copytree(bundles / which, clone / reproduce.BUNDLES)
    rows = [Row("export", "yes", "artifacts/worldmodel", "1", "2")]
    assert judge(committed, clone, rows, tolerance)[1] == code


def test_predictions_are_compared_on_every_kind_of_action(variant):
    assert largest_difference(variant.bundles, variant.bundles) == 0


def test_bundles_of_other_shapes_cannot_be_compared(projects):
    with pytest.raises(ValueError, match="the bundles predict other things: history, horizon, features, actions"):
        largest_difference(projects("mlp").bundles, projects("gru").bundles)


def test_a_project_that_was_never_run_promises_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"dvc\.lock: no such file, so that nothing was promised"):
        reproduce._outs(tmp_path)


def test_a_command_that_fails_is_named(tmp_path):
    with pytest.raises(ValueError, match="`false now` ended with exit code 1"):
        reproduce._run(["false", "now"], tmp_path)


def test_a_clone_takes_no_checkpoint_of_another_machines(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLDMODEL_CHECKPOINTS", "s3://team/runs")
    monkeypatch.setenv("DVC_ROOT", "/another/project")
    monkeypatch.setenv("KEPT", "kept")
    code = "import os; print(*(os.environ.get(n) for n in ('WORLDMODEL_CHECKPOINTS', 'DVC_ROOT', 'KEPT')))"
    assert reproduce._run([sys.executable, "-c", code], tmp_path) == "None None kept\n"
