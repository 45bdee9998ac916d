import os

import pytest

from worldmodel.core import locking, parent
from worldmodel.core.atomic import publishing, replacing


def break_off(path):
    with replacing(path) as temporary:
        temporary.write_text("new")
        raise OSError("half way")


def test_a_file_appears_whole_with_its_folders(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="half way"):
        break_off(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


OWN = ("part-*", "list")


def publish(*outs, parts=(), broken=False):
    """A folder with these parts and a list, or a file of their names for each further out."""
    with publishing(*outs, own=OWN) as (folder, *files):
        folder.mkdir()
        for name in ("list", *parts):
            (folder / name).write_text(str(parts))
        for file in files:
            file.write_text(str(parts))
        if broken:
            raise OSError("half way")


def held(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_outs_take_their_places_together_and_nothing_of_before_stays(tmp_path):
    outs = tmp_path / "new" / "folder", tmp_path / "file"
    for parts in (("part-1", "part-2"), ("part-2",), ()):
        publish(*outs, parts=parts)
        assert held(tmp_path) == {f"new/folder/{name}": str(parts) for name in ("list", *parts)} | {"file": str(parts)}


def test_where_it_fails_what_was_there_stays(tmp_path):
    publish(tmp_path / "folder", tmp_path / "file", parts=("part-1",))
    before = held(tmp_path)
    with pytest.raises(OSError, match="half way"):
        publish(tmp_path / "folder", tmp_path / "file", parts=("part-2",), broken=True)
    assert held(tmp_path) == before


def test_what_is_not_ours_stays_in_the_folder(tmp_path):
    publish(tmp_path / "folder", parts=("part-1",))
    (tmp_path / "folder" / "notes").write_text("mine")
    (tmp_path / "folder" / ".part-1.7.tmp").touch()
    publish(tmp_path / "folder", parts=("part-2",))
    assert set(held(tmp_path / "folder")) == {"notes", "list", "part-2"}


def test_a_link_to_a_folder_elsewhere_stays_one_and_files_in_a_cache_stay_as_they_are(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path / "disk", target_is_directory=True)
    (tmp_path / "cached").write_text("cached")
    (tmp_path / "disk" / "list").symlink_to(tmp_path / "cached")
    publish(tmp_path / "folder", parts=("part-1",))
    assert (tmp_path / "folder").is_symlink()
    assert set(held(tmp_path / "disk")) == {"list", "part-1"}
    assert (tmp_path / "cached").read_text() == "cached"


def test_what_a_killed_process_left_at_any_moment_is_cleared_up(tmp_path):
    publish(tmp_path / "folder", parts=("part-1",))
    (tmp_path / "folder").rename(tmp_path / ".folder.old.tmp")  # between the two renames
    (tmp_path / ".folder.tmp").mkdir()
    (tmp_path / ".folder.tmp" / "list").touch()
    (tmp_path / ".folder.lock").write_text("4194304123")
    with pytest.raises(OSError, match="half way"):
        publish(tmp_path / "folder", parts=("part-2",), broken=True)
    assert held(tmp_path) == {"folder/list": "('part-1',)", "folder/part-1": "('part-1',)"}


def test_two_processes_never_write_one_out(tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "PATIENCE", 0.2)
    refusal = rf"folder: process {os.getpid()} is here to write it; wait until it ends, or end it \(kill"
    with publishing(tmp_path / "folder", own=OWN) as (folder,):
        with pytest.raises(ValueError, match=refusal):
            publish(tmp_path / "elsewhere" / ".." / "folder")
        folder.mkdir()
    publish(tmp_path / "folder")


def test_an_orphan_publishes_nothing(tmp_path, monkeypatch):
    publish(tmp_path / "folder", tmp_path / "file")
    before = held(tmp_path)
    monkeypatch.setattr(parent, "_watched", [os.getppid() + 1])
    with pytest.raises(ProcessLookupError, match="has gone: nothing more is written"):
        publish(tmp_path / "folder", tmp_path / "file", parts=("part-2",))
    with pytest.raises(ProcessLookupError), replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert held(tmp_path) == before
