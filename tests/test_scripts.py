"""scripts/*.sh where folders have names with spaces, files are gone, and disks are full."""

import os
import shutil
import subprocess

import pytest

from copies import ENVIRONMENT, ROOT

DVC = """#!/bin/sh
[ "$1" != exp ] || { pwd >"$SEEN"; git ls-files >>"$SEEN"; exit "$CODE"; }
"""


@pytest.fixture
def folder(tmp_path):
    """A repository below whose top the project lies; its `dvc` notes what it finds."""
    made = tmp_path / "all projects" / "a b"
    for name, text in {"scripts/smoke.sh": "", "gone": "", "with space": "", "bin/dvc": DVC}.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    shutil.copy(ROOT / "scripts/smoke.sh", made / "scripts")
    (made / "bin/dvc").chmod(0o755)
    subprocess.run(["git", "init", "--quiet", made.parent], check=True)
    subprocess.run(["git", "add", "--all"], cwd=made, check=True)
    (made / "gone").unlink()
    (made / "new").touch()
    (tmp_path / "room for it").mkdir()
    return made


def smoke(folder, tmp_path, code=0, room="room for it"):
    own = {"SEEN": str(tmp_path / "seen"), "CODE": str(code), "TMPDIR": str(tmp_path / room)}
    own["PATH"] = f"{folder / 'bin'}{os.pathsep}{ENVIRONMENT['PATH']}"
    command = [folder / "scripts/smoke.sh"]
    return subprocess.run(command, env=ENVIRONMENT | own, capture_output=True, text=True, check=False)


def test_smoke_runs_a_copy_of_what_is_there_and_leaves_nothing_behind(folder, tmp_path):
    done = smoke(folder, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    where, *files = (tmp_path / "seen").read_text().splitlines()
    assert files == ["bin/dvc", "new", "scripts/smoke.sh", "with space"]
    assert where.startswith(str(tmp_path / "room for it"))
    assert not list((tmp_path / "room for it").iterdir())


def test_where_smoke_fails_it_names_the_folder_its_room_and_another_way(folder, tmp_path):
    done = smoke(folder, tmp_path, code=3)
    assert done.returncode == 3
    where = (tmp_path / "seen").read_text().splitlines()[0]
    assert f"error: failed in {where}, whose disk has " in done.stderr
    assert " MiB free; if that is too little, set TMPDIR to a folder that has more\n" in done.stderr
    assert not list((tmp_path / "room for it").iterdir())


@pytest.mark.parametrize("script", ["smoke.sh", "generate_proto.sh"])
def test_without_room_for_a_temporary_folder_a_script_says_what_to_set(tmp_path, script):
    environment = ENVIRONMENT | {"TMPDIR": str(tmp_path / "none")}
    done = subprocess.run([ROOT / "scripts" / script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert str(tmp_path / "none") in done.stderr
    assert "error: no room for temporary files; set TMPDIR to a folder that has" in done.stderr
