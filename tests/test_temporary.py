import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from worldmodel.core.temporary import temporary_folder


def test_a_folder_is_empty_and_gone_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder() as folder:
        assert folder.parent == tmp_path
        (folder / "file").touch()
    assert not folder.exists()


def fail(error):
    with temporary_folder():
        raise error


def test_a_write_without_room_names_the_folder_and_what_to_set():
    with pytest.raises(OSError, match="No space left on device") as full:
        Path("/dev/full").write_text("more than there is room for")
    with pytest.raises(OSError, match=r"No space left.*\n/.*, for temporary files, has \d+ MiB free: .*TMPDIR"):
        fail(full.value)


def test_what_another_program_could_not_do_without_room_is_told_with_the_folder(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(OSError, match=r"^`dvc` failed\n/.*, for temporary files, has 0 MiB free: .* set TMPDIR"):
        fail(ValueError("`dvc` failed"))


def test_other_failures_stay_as_they_are():
    with pytest.raises(ValueError, match=r"^logs:3: no JSON$"):
        fail(ValueError("logs:3: no JSON"))


def test_where_none_can_be_made_it_says_what_to_set(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(OSError, match=r"no temporary folder can be made .*No such file.*/nowhere.*set TMPDIR"):
        fail(ZeroDivisionError())
