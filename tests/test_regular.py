"""What stands where a file is expected: a reader that opened it would wait or go on for ever."""

import os
import socket
import threading

import pytest

from commands import call
from lines import frame, log
from worldmodel.core import regular
from worldmodel.core.fingerprint import content_hashes, sha256
from worldmodel.core.regular import open_regular, read_text
from worldmodel.logs.files import log_files

pytestmark = pytest.mark.timeout(60)

PLACED = "expected a regular file; move it away"


def bound(path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(path))


def giant(path):
    path.touch()
    os.truncate(path, 3 << 30)


KINDS = {  # what stands there -> how it comes there, and what is said of it
    "pipe": (os.mkfifo, f"a named pipe, {PLACED}"),
    "socket": (bound, f"a socket, {PLACED}"),
    "device": (lambda path: path.symlink_to("/dev/zero"), f"a device, {PLACED}"),
    "loop": (
        lambda path: path.symlink_to(path.name),
        "a link that leads to no file (Too many levels of symbolic links); put",
    ),
    "dangling": (
        lambda path: path.symlink_to("gone"),
        "a link that leads to no file (No such file or directory); put the",
    ),
    "giant": (giant, "3072 MiB of it were never written; copy it again from where it came from"),
}


@pytest.fixture(params=KINDS)
def kind(request, tmp_path, monkeypatch):
    """A folder of logs in which the last one is none, and what is said of it."""
    monkeypatch.chdir(tmp_path)
    place, said = KINDS[request.param]
    log(tmp_path, frame(0), frame(1), name="a.jsonl")
    place(tmp_path / "x.jsonl")
    return tmp_path, said


def test_it_is_no_input_of_a_stage(kind):
    folder, said = kind
    for inputs in ({"logs": folder}, {"file": folder / "x.jsonl"}):
        with pytest.raises(ValueError, match=r"x\.jsonl: ") as caught:
            content_hashes(inputs)
        assert str(caught.value).startswith(f"{folder / 'x.jsonl'}: {said}")


def test_it_is_no_log(kind, capsys):
    folder, said = kind
    assert call("check-logs", folder) == 1
    assert capsys.readouterr().out.startswith(f"x.jsonl:1: {said}")
    assert [file.read_error == "" for file in log_files(folder)] == [True, False]
    if "no file" not in said:
        assert log_files(folder / "x.jsonl")[0].read_error.startswith(said)


def test_a_file_that_became_a_pipe_between_two_looks_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    whole = os.open
    monkeypatch.setattr(os, "open", lambda path, *flags: whole(tmp_path / "pipe", *flags))
    with pytest.raises(ValueError, match="file: a named pipe"):
        open_regular(tmp_path / "file")


def test_files_links_and_sparse_files_of_a_sensible_size_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(regular, "HOLE", 1 << 20)
    path = tmp_path / "file"
    with path.open("wb") as stream:
        for _ in range(5):
            stream.write(b"x" * (1 << 20))
            stream.seek(1 << 20, os.SEEK_CUR)
        stream.write(b"end")
    (tmp_path / "link").symlink_to(path)
    with open_regular(tmp_path / "link") as stream:
        assert stream.read() == path.read_bytes()
    assert content_hashes({"given": tmp_path}) == {"given/file": sha256(path), "given/link": sha256(path)}


def test_a_pipe_with_somebody_at_its_other_end_is_one_as_well(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    other = threading.Thread(target=lambda: (tmp_path / "pipe").open("rb").close())
    other.start()
    with pytest.raises(ValueError, match="pipe: a named pipe"):
        read_text(tmp_path / "pipe")
    (tmp_path / "pipe").open("wb").close()
    other.join()


def test_a_folder_that_may_not_be_listed_is_no_input(tmp_path, monkeypatch):
    def refusing(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(ValueError, match="Permission denied; make this folder readable, or move it away"):
        content_hashes({"logs": tmp_path})
