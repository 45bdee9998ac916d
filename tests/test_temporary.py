import errno
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from worldmodel.core.atomic import replacing
from worldmodel.core.temporary import REMEDIES, naming, temporary_folder


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


@pytest.mark.parametrize("number", REMEDIES)
def test_what_cannot_be_written_is_named_with_what_to_do_and_nothing_is_left(tmp_path, number):
    path = tmp_path / "out" / "table.csv"

    def write(error):
        with replacing(path) as temporary:
            temporary.write_text("half of it")
            raise error(temporary)

    for error in (lambda _: OSError(number, os.strerror(number)), lambda place: OSError(number, "why", str(place))):
        with pytest.raises(OSError, match=r"; .*, and run again$") as caught:
            write(error)
        assert str(caught.value).startswith(f"{path}: {caught.value.strerror}")
        assert REMEDIES[number] in str(caught.value)
        assert caught.value.errno == number
    assert list(path.parent.iterdir()) == []


def test_what_cannot_be_read_meanwhile_is_told_as_it_is(tmp_path):
    with pytest.raises(PermissionError) as caught, replacing(tmp_path / "out" / "file"):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/input")
    assert caught.value.filename == "/elsewhere/input"


def test_places_are_shown_as_the_user_knows_them(tmp_path):
    with pytest.raises(OSError, match=rf"^{tmp_path}/data/prepared/rejects.csv: File too large"):  # noqa: SIM117
        with naming(tmp_path / "data/prepared"):
            raise OSError(errno.EFBIG, "File too large", f"{tmp_path}/data/.prepared.tmp/.rejects.csv.17.tmp")
