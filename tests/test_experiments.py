import subprocess

import pytest

from worldmodel.sweeps import experiments


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """params.yaml, committed on the branch main."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("train: 1\n")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
    for command in (["init", "-q", "-b", "main"], ["add", "."], [*identity, "commit", "-qm", "state"]):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def test_what_a_killed_queueing_leaves_is_put_right(repository, capsys):
    subprocess.run(["git", "checkout", "-q", "--detach"], check=True)
    (repository / "params.yaml").write_text("train: 2\n")
    experiments.QUEUEING.parent.mkdir(parents=True)
    experiments.QUEUEING.write_text("refs/heads/main")
    experiments.mend()
    assert experiments.run("git", "symbolic-ref", "HEAD") == "refs/heads/main\n"
    assert (repository / "params.yaml").read_text() == "train: 1\n"
    assert not experiments.QUEUEING.exists()
    assert "killed while DVC queued a run" in capsys.readouterr().out


def test_where_nothing_was_killed_edits_stay(repository):
    (repository / "params.yaml").write_text("train: 2\n")
    experiments.mend()
    assert (repository / "params.yaml").read_text() == "train: 2\n"


def test_a_command_that_fails_says_what_it_said(repository):
    with pytest.raises(ValueError, match="git show HEAD:none: fatal: path 'none' does not exist"):
        experiments.run("git", "show", "HEAD:none")
