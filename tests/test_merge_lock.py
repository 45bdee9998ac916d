"""The merge driver of dvc.lock: on texts, under git, and under DVC."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from copies import ROOT
from teams import Member
from worldmodel.ci import merge_lock
from worldmodel.ci.merge_lock import HEAD, drive, merge, parse


def entry(name, digest):
    return f"  {name}:\n    cmd: python {name}.py\n    outs:\n    - path: {name}.txt\n      md5: {digest}\n"


def lock(**digests):
    return HEAD + "".join(entry(name, digest) for name, digest in digests.items())


def merged(tmp_path, *texts):
    paths = [tmp_path / name for name in ("base", "ours", "theirs")]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    drive(*paths)
    return paths[1].read_text()


def test_the_projects_own_lock_survives_reading_and_writing_to_the_byte(tmp_path):
    text = (ROOT / "dvc.lock").read_text()
    assert merged(tmp_path, text, text, text) == text
    assert list(parse(text, tmp_path)) == ["dreams", "prepare", "normalize", "train", "export", "validate"]


def test_each_branchs_stage_is_taken(tmp_path):
    found = merged(tmp_path, lock(a=1, b=1, c=1), lock(a=2, b=1, c=1), lock(a=1, b=2, c=1))
    assert found == lock(a=2, b=2, c=1)


def test_a_stage_that_both_changed_is_dropped_and_named(tmp_path, capsys):
    assert merged(tmp_path, lock(a=1, b=1), lock(a=1, b=2), lock(a=1, b=3)) == lock(a=1)
    assert "both branches changed b; run `dvc repro` and commit" in capsys.readouterr().err


def test_the_same_change_on_both_branches_stays(tmp_path, capsys):
    assert merged(tmp_path, lock(a=1), lock(a=2), lock(a=2)) == lock(a=2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "kept", "dropped"),
    [
        ({"a": "1"}, {}, {"a": "1"}, {}, []),
        ({"a": "1"}, {"a": "1"}, {}, {}, []),
        ({"a": "1"}, {}, {"a": "2"}, {}, ["a"]),
        ({}, {"a": "1"}, {"b": "1"}, {"a": "1", "b": "1"}, []),
        ({}, {"a": "1"}, {"a": "2"}, {}, ["a"]),
    ],
)
def test_stages_that_come_and_go(base, ours, theirs, kept, dropped):
    assert merge(base, ours, theirs) == (kept, dropped)


def test_a_lock_that_both_branches_made_needs_no_common_one(tmp_path):
    assert merged(tmp_path, "", lock(a=1), lock(b=1)) == lock(a=1, b=1)


def test_a_lock_without_any_stage_left_can_be_merged_again(tmp_path):
    empty = merged(tmp_path, lock(a=1), lock(a=2), lock(a=3))
    assert merged(tmp_path, empty, empty, lock(a=4)) == lock(a=4)


DAMAGES = {
    "other": b"stages: 1\n",
    "no stages": HEAD.splitlines()[0].encode(),
    "markers": (lock(a=1) + "<<<<<<< ours\n").encode(),
    "torn": lock(a=1).rstrip().encode(),
    "datasets": ("datasets: []\n" + HEAD).encode(),
    "twice": (lock(a=1) + entry("a", 2)).encode(),
    "empty": b"",
    "deep": b"[" * 10**5,
    "binary": bytes(range(256)),
    "latin-1": lock(a=1).encode() + "  caf\u00e9:\n".encode("latin-1"),
}


@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_it_does_not_understand_it_leaves_alone_and_says_so(tmp_path, damage, side):
    texts = dict.fromkeys(("base", "ours", "theirs"), lock(a=1).encode()) | {side: DAMAGES[damage]}
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{tmp_path / side}: .*(merge it by hand|expected text)$"):
        drive(*(tmp_path / name for name in texts))
    assert {name: (tmp_path / name).read_bytes() for name in texts} == texts


@pytest.mark.timeout(60)
def test_a_pipe_is_no_lock_and_a_write_that_fails_leaves_ours_as_it_is(tmp_path, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(Path, "write_text", lambda *_, **__: Path("/dev/full").write_bytes(b"x"))
        for name, text in {"base": lock(a=1), "ours": lock(a=2), "theirs": lock(a=1, b=1)}.items():
            (tmp_path / name).write_bytes(text.encode())
        with pytest.raises(OSError, match="No space left"):
            drive(tmp_path / "base", tmp_path / "ours", tmp_path / "theirs")
    assert (tmp_path / "ours").read_text() == lock(a=2)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: a named pipe"):
        drive(tmp_path / "base", tmp_path / "ours", tmp_path / "pipe")


@pytest.fixture(params=["", "with a space/sub"])
def repository(tmp_path, request):
    """Each branch has a stage more than their common commit; plain git would see a conflict. `request`: the project."""
    top = tmp_path / "all projects"
    member = Member(top / request.param)
    member.write("dvc.yaml", "")
    member.write(".gitattributes", (ROOT / ".gitattributes").read_text())
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", top], check=True)
    commit_lock(member, lock(a=1))
    member.run("git", "checkout", "--quiet", "-b", "other")
    commit_lock(member, lock(a=1, b=1))
    member.run("git", "checkout", "--quiet", "main")
    commit_lock(member, lock(a=1, c=1))
    return member


def commit_lock(member, text):
    member.write("dvc.lock", text)
    member.commit()


def install(member):
    member.run(sys.executable, "-m", "worldmodel", "merge-driver", "--install")


def test_git_merges_what_it_could_not_before_wherever_the_project_lies(repository):
    install(repository)
    repository.run("git", "merge", "--no-edit", "other")
    assert repository.read("dvc.lock") == lock(a=1, c=1, b=1)


def test_a_merge_that_already_stands_in_conflict_is_done_over(repository):
    repository.refused("git", "merge", "other")
    assert "<<<<<<<" in repository.read("dvc.lock")
    install(repository)
    repository.run("git", "checkout", "--merge", "dvc.lock")
    assert repository.read("dvc.lock") == lock(a=1, c=1, b=1)


def test_a_lock_it_does_not_understand_is_a_conflict_with_both_sides_in_the_file(repository):
    commit_lock(repository, "datasets: []\n" + lock(a=1, c=1))
    install(repository)
    assert "merge it by hand" in repository.refused("git", "merge", "other")
    assert_both_sides(repository)


def assert_both_sides(repository):
    text = repository.read("dvc.lock")
    assert "<<<<<<< ours\n" in text
    assert "  b:\n" in text
    assert "  c:\n" in text


def test_where_its_python_has_gone_git_merges_the_text_and_says_what_to_do(repository, tmp_path, monkeypatch):
    python = tmp_path / "100% of a venv" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    merge_lock.install(repository.folder)
    repository.run("git", "merge", "--no-edit", "other")
    repository.run("git", "reset", "--quiet", "--hard", "HEAD~1")
    python.unlink()
    done = repository.attempt("git", "merge", "--no-edit", "other")
    assert done.returncode == 1
    assert "if the driver was not found: worldmodel merge-driver --install" in done.stderr
    assert_both_sides(repository)


def test_it_is_not_installed_where_git_would_not_call_it(repository):
    repository.write(".gitattributes", "")
    said = repository.refused(sys.executable, "-m", "worldmodel", "merge-driver", "--install")
    assert "found no `dvc.lock merge=dvc-lock`; restore that file first" in said
    assert repository.attempt("git", "config", "merge.dvc-lock.driver").stdout == ""


def test_what_stages_write_stays_as_on_this_branch_and_git_says_so(repository):
    for branch, loss in (("other", 2), ("main", 3)):
        repository.run("git", "checkout", "--quiet", branch)
        repository.write("artifacts/metrics.json", f'{{"loss": {loss}}}')
        repository.commit()
    install(repository)
    done = repository.attempt("git", "merge", "--no-edit", "other")
    assert (done.returncode, repository.read("artifacts/metrics.json")) == (0, '{"loss": 3}')
    assert "artifacts/metrics.json: stays as on this branch, until dvc repro writes it anew" in done.stderr


@pytest.fixture
def member(template, tmp_path):
    made = Member.copied(template, tmp_path / "member")
    made.run("git", "branch", "--move", "main")
    install(made)
    return made


def work(member, branch, file, old, new):
    """Change a file on a branch of its own, run what that reruns, commit; returns the stages that ran."""
    member.run("git", "checkout", "--quiet", "-b", branch, "main")
    assert old in member.read(file)
    member.write(file, member.read(file).replace(old, new, 1))
    ran, cached = member.repro()
    member.commit()
    return ran | cached


def test_branches_with_different_stages_merge_and_nothing_reruns(member):
    assert work(member, "ours", "params.yaml", "latency_calls: 3", "latency_calls: 4") == {"validate"}
    assert work(member, "theirs", "src/prepare.py", '"""', '"""The same: ') == {"prepare"}
    member.run("git", "merge", "--no-edit", "ours")
    assert member.repro() == (set(), set())


def test_a_stage_of_both_branches_runs_once_more_and_then_comes_from_the_run_cache(member):
    assert work(member, "ours", "params.yaml", "latency_calls: 3", "latency_calls: 4") == {"validate"}
    assert work(member, "theirs", "src/validate.py", '"""', '"""The same: ') == {"validate"}
    done = member.attempt("git", "merge", "--no-edit", "ours")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "both branches changed validate" in done.stderr
    assert "  validate:" not in member.read("dvc.lock")
    assert member.repro() == ({"validate"}, set())
    member.run("git", "reset", "--quiet", "--hard")
    assert member.repro() == (set(), {"validate"})
    assert "up to date" in member.run("dvc", "status")
