import errno
import gzip
import json
import os
from pathlib import Path

import fsspec
import pytest

from lines import GAP, frame, log, read, reasons, times
from worldmodel.logs.copies import find_logs
from worldmodel.logs.files import location, log_files
from worldmodel.logs.reader import read_logs

WHOLE = b"".join(json.dumps(frame(t)).encode() + b"\n" for t in range(3))


def test_a_copy_is_refused_even_if_it_is_packed_unless_it_is_empty(tmp_path):
    for name in ("x.jsonl", "y.jsonl", "z.jsonl.gz"):
        (tmp_path / name).touch()
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_bytes(WHOLE)
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(WHOLE))
    (tmp_path / "d.jsonl").write_bytes(WHOLE.replace(b"0.5", b"0.6"))
    logs = read(tmp_path)
    assert len(logs.episodes) == 2
    reason = "1: the same lines as a.jsonl, expected each log once"
    assert reasons(logs) == [f"b.jsonl:{reason}", f"c.jsonl.gz:{reason}"]


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    log(tmp_path, frame(0), name="a.jsonl")
    log(tmp_path, frame(1), name="b.jsonl")
    whole = os.open

    def refusing(path, *arguments):
        if str(path).endswith("b.jsonl"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return whole(path, *arguments)

    monkeypatch.setattr(os, "open", refusing)
    assert reasons(read(tmp_path)) == [
        "b.jsonl:1: cannot be read (Permission denied); change its rights, or move it away"
    ]


def test_links_to_files_are_followed_and_links_to_anything_else_are_refused(tmp_path):
    outside, logs = tmp_path / "outside", tmp_path / "logs"
    logs.mkdir()
    (outside / "deep").mkdir(parents=True)
    log(outside / "deep", frame(1, "b"))
    (outside / "deep" / "log.jsonl").rename(outside / "deep" / "d41d8c")  # as a cache names it
    log(logs, frame(0))
    (logs / "gone.jsonl").symlink_to(outside / "nothing")
    (logs / "loop.jsonl").symlink_to(logs / "loop.jsonl")
    (logs / "out.jsonl").symlink_to(outside / "deep" / "d41d8c")
    (logs / "folder").symlink_to(outside / "deep")
    (logs / "inner").symlink_to(logs)
    (logs / "note.txt").symlink_to(outside / "nothing")
    found = read(logs)
    assert [episode.agent_id for episode in found.episodes] == ["a", "b"]
    folder = "1: a link to a folder, expected files, folders, and links to files; copy the folder, or link its files"
    assert reasons(found) == [
        f"folder:{folder}",
        "gone.jsonl:1: a link that leads to no file (No such file or directory); put the file in its place",
        f"inner:{folder}",
        "loop.jsonl:1: a link that leads to no file (Too many levels of symbolic links); put the file in its place",
    ]


def test_a_pointer_of_git_lfs_is_named_as_one(tmp_path):
    names = "log.jsonl", "log.jsonl.gz"
    for name in names:
        (tmp_path / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{name}\nsize 12345\n")
    assert reasons(read(log(tmp_path, frame(0), name="other.jsonl"))) == [
        f"{name}:1: a pointer of Git LFS in place of the log; run `git lfs pull`" for name in names
    ]


def test_the_folder_itself_may_be_a_link_and_so_may_a_file_in_it(tmp_path):
    (tmp_path / "real").mkdir()
    log(tmp_path / "real", frame(0))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert not read(tmp_path / "link").rejects
    (tmp_path / "real" / "again.jsonl").symlink_to("log.jsonl")
    assert reasons(read(tmp_path / "link")) == ["log.jsonl:1: the same lines as again.jsonl, expected each log once"]


def test_names_of_files_are_shown_on_one_line_of_utf8(tmp_path):
    for name in (b"a\n.jsonl", b"\xff.jsonl"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("?\n")
    assert [file.name for file in log_files(tmp_path)] == ["a\\n.jsonl", "\\xff.jsonl"]


def test_a_folder_that_may_not_be_listed_stops(tmp_path, monkeypatch):
    log(tmp_path, frame(0))

    def refusing(folder):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(ValueError, match="Permission denied; make this folder readable, or move it away"):
        find_logs([tmp_path])


def test_logs_at_an_address_are_read_like_those_in_a_folder(tmp_path):
    memory = fsspec.filesystem("memory")
    for name, content in (("b.jsonl", WHOLE), ("deep/a.jsonl.gz", gzip.compress(WHOLE)), ("notes.txt", b"no log")):
        memory.pipe(f"/logs/{name}", content)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    here, there = read(tmp_path), read_logs(["memory://logs"], GAP)
    assert [str(reject) for reject in there.rejects] == reasons(here)
    assert times(there) == times(here)
    assert [file.name for file in log_files("memory://logs/b.jsonl")] == ["b.jsonl"]
    with pytest.raises(ValueError, match="memory://nothing: no such folder; expected one with"):
        log_files("memory://nothing")
    with pytest.raises(ValueError, match=r"what://is/this: cannot be listed .*what.*; check the address"):
        log_files("what://is/this")
    assert location("memory://logs") == "memory://logs"
    assert location("a//b") == Path("a/b")
