import tempfile
from pathlib import Path

import pytest

from factories import make_episodes
from worldmodel.episodes.temporary_store import EpisodeStore


def test_stores_in_one_folder_never_meet_and_leave_no_file_even_if_they_are_killed(tmp_path):
    episodes = make_episodes(4, 5)
    with EpisodeStore.within(tmp_path) as one, EpisodeStore.within(tmp_path) as other:
        stored = [store.add(episode) for episode in episodes for store in (one, other)]
        assert not list(tmp_path.iterdir())
        for episode, *copies in zip(episodes, stored[::2], stored[1::2], strict=True):
            assert all((copy.table().features == episode.features).all() for copy in copies)


def test_a_full_disk_is_named_with_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("w+b"))  # noqa: SIM115
    with (
        pytest.raises(
            OSError, match=rf"^{tmp_path}: No space left on device \(\d+ MiB free\); make room on its disk, and run"
        ),
        EpisodeStore.within(tmp_path) as store,
    ):
        store.add(make_episodes(1, 5)[0]).table()
