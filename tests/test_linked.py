"""Data folders whose files are links into a cache, as DVC makes them where cache.type is symlink or hardlink."""

import os

import pytest

from factories import make_episodes, make_intake, make_normalize, write_logs
from test_episodes import contents
from worldmodel.arrays.packing import read_packed
from worldmodel.stages.normalize import normalize
from worldmodel.stages.prepare import prepare


def moved(folder, cache, link):
    """The folder, now of read-only links to its files in a cache."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        kept = cache / f"{len(list(cache.iterdir())):04}"
        path.rename(kept)
        kept.chmod(0o444)
        link(kept, path)
    return folder


@pytest.mark.parametrize("form", ["npz", "lmdb"])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_links_are_read_like_files_and_never_written_through(tmp_path, link, form):
    cache, prepared, normalized = (tmp_path / name for name in ("cache", "prepared", "normalized"))
    cache.mkdir()
    logs = moved(write_logs(tmp_path / "logs", make_episodes(30, 5)), cache, link)
    dreams = make_episodes(2, 5, source="dream", name="d")
    dreams = moved(write_logs(tmp_path / "dreams", dreams), cache, link)

    def run(seed):
        prepare(logs, dreams, prepared, make_intake(seed=seed, format=form))
        normalize(prepared, normalized, tmp_path / "normalizer.json", make_normalize())

    run(1)
    plain = contents(prepared), contents(normalized)
    moved(normalized, cache, link)
    moved(prepared, cache, link)
    cached, packed = contents(cache), read_packed(normalized)
    assert (contents(prepared), contents(normalized)) == plain
    assert len(packed.packed.lengths) == 32
    for left_over in (prepared / ".x.1.tmp", prepared / "episodes" / ".x.lmdb.1.tmp", normalized / ".x.1.tmp"):
        left_over.touch()  # as by a process that was killed
    run(2)
    assert contents(cache) == cached
    assert contents(prepared) != plain[0]
    run(1)
    assert (contents(prepared), contents(normalized)) == plain
