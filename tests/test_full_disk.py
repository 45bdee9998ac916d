"""Stages whose disk takes no more, by a limit on the size of files: which path it was, and nothing half-written."""

import resource
import shutil

import pytest

from factories import make_episodes, make_intake, make_normalize, write_logs
from projects import Project
from test_episodes import contents
from worldmodel.logs.writing import write_jsonl
from worldmodel.stages import export
from worldmodel.stages.normalize import normalize
from worldmodel.stages.prepare import prepare

LARGEST = 600  # bytes


def prepare_as(form):
    return lambda project: prepare(project.folder / "logs", None, project.folder / "new", make_intake(format=form))


STAGES = {  # stage -> what it does, and the out that it cannot write
    "dreams": (lambda project: write_jsonl(project.folder / "new", make_episodes(20, 9)), "new"),
    "npz": (prepare_as("npz"), "new"),
    "normalize": (
        lambda project: normalize(
            project.folder / "prepared", project.folder / "new", project.folder / "new.json", make_normalize()
        ),
        "new",
    ),
    "train": (Project.train, "train"),
    "export": (Project.export, "worldmodel"),
    "validate": (Project.validate, "metrics.json"),
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_the_path_is_named_nothing_changes_and_it_works_once_there_is_room(project, tmp_path, stage, monkeypatch):
    for name in ("encoder_graph", "predictor_graph", "step_graph"):
        monkeypatch.setattr(
            export, name, lambda *_, **__: bytes(LARGEST + 1)
        )  # no time goes into what is not the claim
    shutil.copytree(project.folder, tmp_path / "copy")
    write_logs(tmp_path / "copy" / "logs", make_episodes(20, 9))
    mine, (run, out) = Project(tmp_path / "copy", project.settings), STAGES[stage]
    before, limit = contents(mine.folder), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, limit[1]))
    try:
        with pytest.raises(OSError, match=r"File too large; raise the limit .*, and run again") as caught:
            run(mine)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert str(caught.value).startswith(f"{mine.folder / out}")
    assert contents(mine.folder) == before
    run(mine)
