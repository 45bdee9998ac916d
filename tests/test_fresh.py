"""worldmodel fresh in clones that hold no data: what CI sees."""

import shutil
import sys

import pytest

from copies import ROOT
from scratch import Scratch, two_commits

pytestmark = pytest.mark.dvc


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Scratch:
    return two_commits(tmp_path_factory.mktemp("fresh") / "project")


@pytest.fixture
def clone(project, tmp_path) -> Scratch:
    return project.cloned(tmp_path / "clone")


def test_a_clone_without_data_is_fresh(clone):
    assert not (clone.folder / "artifacts/train").exists()
    done = clone.review("fresh")
    assert (done.returncode, done.stdout) == (0, "dvc.lock belongs to these files\n")


def edit_code(clone):
    clone.write("src/stage.py", clone.read("src/stage.py") + "# edited\n")


def edit_command(clone):
    clone.write("dvc.yaml", clone.read("dvc.yaml").replace("stage.py export", "stage.py  export"))


def edit_metrics(clone):
    clone.set_metrics(mse={"mean": 0.0001})


def mix_two_locks(clone):
    """As a merge by hand would: the train of one branch, the rest of the other."""
    text = clone.read("dvc.lock")
    of_train = text.split("path: artifacts/train")[1].split("md5: ")[1][:32]
    head, rest = text.rsplit(of_train, 1)
    clone.write("dvc.lock", head + "a" * 32 + rest)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit_code, "train: src/stage.py modified"),
        (edit_command, "export: changed command"),
        (edit_metrics, "validate: artifacts/metrics.json modified"),
        (mix_two_locks, "export: artifacts/train is not what the stage before it left, by dvc.lock"),
    ],
)
def test_a_lock_that_does_not_belong_fails_and_names_stage_and_reason(clone, change, said):
    change(clone)
    done = clone.review("fresh")
    assert done.returncode == 1
    assert f"  {said}" in done.stderr
    assert done.stderr.endswith("run `dvc repro` and commit dvc.lock with what it changed\n")
    assert "Traceback" not in done.stderr


def test_it_fails_where_all_data_are_there_too_although_dvc_exits_with_0(project):
    project.set_rho(0.3)
    try:
        assert project.attempt("dvc", "repro", "--dry", "--allow-missing").returncode == 0
        done = project.review("fresh")
    finally:
        project.run("git", "checkout", "--quiet", "params.yaml")
    assert done.returncode == 1
    assert "train: train.rho modified" in done.stderr


def test_params_back_at_what_only_the_run_cache_knows_are_not_fresh(project):
    project.set_rho(0.2)
    try:
        done = project.review("fresh")
    finally:
        project.run("git", "checkout", "--quiet", "params.yaml")
    assert done.returncode == 1


@pytest.mark.parametrize("below", ["", "all projects/sub"])
def test_a_clone_is_to_the_byte_what_was_committed_whatever_git_does_to_line_ends_elsewhere(tmp_path, below):
    made = two_commits(tmp_path / "made", below, {".gitattributes": (ROOT / ".gitattributes").read_text()})
    clone = made.cloned(tmp_path / "clone", "-c", "core.autocrlf=true", "-c", "core.eol=crlf")
    files = made.run("git", "ls-files").splitlines()
    assert {".gitattributes", "dvc.lock", "src/stage.py"} < set(files)
    assert not [name for name in files if (clone.folder / name).read_bytes() != (made.folder / name).read_bytes()]
    assert clone.review("fresh").returncode == 0
    assert clone.run("git", "status", "--porcelain") == ""


@pytest.mark.parametrize("how", ["symlink", "hardlink"])
def test_linked_outs_are_fresh_and_judged_and_reported(project, tmp_path, how):
    linked = Scratch.at(shutil.copytree(project.folder, tmp_path / "linked"))
    linked.run("dvc", "config", "cache.type", how)
    linked.run("dvc", "checkout", "--relink")
    assert (linked.folder / "artifacts/train").is_symlink() == (how == "symlink")
    assert linked.review("fresh").returncode == 0
    assert linked.review("gate", "--base", "").returncode == 0
    told = linked.review("pr-report", "--base", "main").stdout
    assert "Run-id: `000000000014` → `000000000028`." in told
    assert "has to rerun" not in told


@pytest.mark.parametrize("command", [("gate",), ("pr-report",), ("merge-driver", "--install"), ("reproduce",)])
def test_what_git_refuses_is_told_in_its_own_words(project, command):
    done = project.attempt("env", "GIT_TEST_ASSUME_DIFFERENT_OWNER=1", sys.executable, "-m", "worldmodel", *command)
    assert done.returncode == 1
    assert "fatal: detected dubious ownership in repository" in done.stderr
    assert "git config --global --add safe.directory" in done.stderr


def test_it_may_be_called_below_the_projects_folder(project):
    below = Scratch.at(project.folder / "src")
    assert below.review("fresh").returncode == 0
    assert below.review("gate", "--base", "").returncode == 0
