import shutil
import subprocess

import pytest

from copies import ENVIRONMENT
from projects import make_project, observed_and_dreams
from worldmodel.ci import reproduce
from worldmodel.ci.reproduce import Row, judge, largest_difference

pytestmark = pytest.mark.dvc
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
    """A project below the top of its repository, whose export takes the bundle that the environment names; committed
    with a. Its cache is shared, and linked to.
    """
    top = tmp_path_factory.mktemp("all projects")
    folder = top / "with a space" / "sub"
    shutil.copytree(bundles, folder / "bundles")
    (folder / "dvc.yaml").write_text(PIPELINE)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    for command in (
        ["git", "init", "--quiet", top],
        ["dvc", "init", "--quiet", "--subdir"],
        ["dvc", "config", "cache.dir", tmp_path_factory.mktemp("cache")],
        ["dvc", "config", "cache.type", "symlink"],
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
    assert [(row.split()[:2], row.split()[-1]) for row in rows] == [
        (["export", "artifacts/worldmodel"], "yes"),
        (["validate", "size.txt"], "yes"),
    ]
    assert rows[0].split()[2] == rows[0].split()[3]
    assert (verdict, code) == ("all 2 outs are equal, bit by bit", 0)


def test_other_bits_are_told_with_how_far_predictions_are_apart(committed, bundles, capsys, monkeypatch):
    monkeypatch.setenv("WHICH", "b")
    code, (_, *rows, verdict) = receipt(committed, capsys)
    assert rows[0].split()[-1] == "NO"
    apart = largest_difference(bundles / "a", bundles / "b")
    assert verdict.endswith(f"by at most {apart:.2g} standardized units, beyond the tolerance of 0.01")
    assert code == 1


@pytest.mark.parametrize(("which", "tolerance", "code"), [("c", 0.0, 2), ("b", 1e6, 2), ("b", 1e-6, 1)])
def test_the_exit_code_follows_from_the_predictions(committed, bundles, tmp_path, which, tolerance, code):
    shutil.copytree(bundles / which, tmp_path / reproduce.BUNDLES)
    rows = [Row("export", "artifacts/worldmodel", "1", "2", "NO")]
    assert judge(committed, tmp_path, rows, tolerance, tmp_path / "committed")[1] == code


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


def test_a_run_begins_from_nothing_with_the_code_that_is_committed(tmp_path, monkeypatch, capfd):
    for name in ("WORLDMODEL_CHECKPOINTS", "DVC_ROOT", "PYTHONPATH"):
        monkeypatch.setenv(name, "/another/project")
    monkeypatch.setenv("KEPT", "kept")
    code = "import os; print({k: v for k, v in os.environ.items() if v in ('/another/project', 'kept')})"
    reproduce._run(["python", "-c", code], tmp_path)
    assert capfd.readouterr().err == "{'KEPT': 'kept'}\n"
