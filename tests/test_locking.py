import os
import re

import pytest

from worldmodel.core import locking


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(locking, "PATIENCE", 0.2)


def test_a_folder_that_is_held_is_refused_with_the_holders_pid(tmp_path):
    folder = tmp_path / "run"
    refusal = f"{re.escape(str(folder))}: process {os.getpid()} is here to train; wait until it ends, or end it"
    with locking.holding(folder, "train"), pytest.raises(ValueError, match=refusal), locking.holding(folder, "train"):
        pass


def test_a_folder_is_free_again_whatever_became_of_its_holder(tmp_path):
    (tmp_path / locking.LOCK).write_text("4194304123")  # of one that died
    with pytest.raises(RuntimeError), locking.holding(tmp_path, "train"):
        raise RuntimeError
    with locking.holding(tmp_path, "train"):
        assert (tmp_path / locking.LOCK).read_text() == str(os.getpid())


def test_what_is_removed_under_a_lock_leaves_no_two_holders(tmp_path):
    folder = tmp_path / "run"
    with locking.holding(folder, "train"):
        (folder / "file").touch()
        locking.remove(folder)
        assert not folder.exists()
        with (
            locking.holding(folder, "train"),
            pytest.raises(ValueError, match="is here to train"),
            locking.holding(folder, "train"),
        ):
            pass
