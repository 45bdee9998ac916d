"""What stages left, damaged: whoever reads it says which file it is."""

import os
import re

import pytest

from worldmodel.ci import revisions
from worldmodel.core.regular import parsed
from worldmodel.core.tables import read_csv
from worldmodel.tracking.tracked import _curves

DAMAGED = {
    revisions.LOCK: ("[1]", "3", "stages: [1]", "stages: {a: 3}", "stages: {a: {outs: 3}}", "stages: {a: {outs: [3]}}"),
    revisions.METRICS: ("", "[1]", "3", "[" * 10**5, "\0"),
    revisions.TIMING: ("[1]", '{"inference": 3}', "[" * 10**5),
    revisions.PARAMS: ("[1]", "<<<<<<< ours"),
    revisions.HORIZON: ("a,b\n1,2\n", "series,frame,mse\nmodel,x,y\n"),
}


def test_the_state_of_a_project_names_the_damaged_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "artifacts/plots").mkdir(parents=True)
    for name, texts in DAMAGED.items():
        for text in texts:
            (tmp_path / name).write_text(text)
            with pytest.raises(ValueError, match=rf"^{re.escape(name)}: cannot be read: .*; restore or rerun it$"):
                revisions.state(None)
        (tmp_path / name).unlink()


@pytest.mark.timeout(60)
def test_a_curve_that_is_none_and_a_pipe_are_named(tmp_path):
    (tmp_path / "loss.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"loss\.csv: cannot be read: 'series'; restore or rerun it"):
        _curves(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ValueError, match=r"pipe\.csv: cannot be read: a named pipe, expected a regular file; move it"):
        parsed(tmp_path / "pipe.csv", read_csv)
