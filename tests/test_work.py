import shutil
from pathlib import Path

import pytest
import yaml

import worldmodel
from worldmodel.core import params
from worldmodel.core import stage_run as work

ROOT = Path(__file__).resolve().parent.parent
FILES = {"stages/stage.py": "from worldmodel import helper", "helper.py": "", "other.py": "", "__init__.py": ""}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A package with a stage of three files, its input and its params."""
    for name, text in ({f"src/worldmodel/{name}": text for name, text in FILES.items()} | {"in/a": "1"}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    use(tmp_path, monkeypatch)
    return tmp_path


def use(folder, monkeypatch):
    """Takes that folder's package for the one that is installed."""
    monkeypatch.setattr(worldmodel, "__file__", str(folder / "src/worldmodel/__init__.py"))


def begin(folder, libraries=("numpy",)):
    settings = params.load(folder / "params.yaml", params.NormalizeStage)
    inputs = {"data": folder / "in", "none": folder / "none"}
    return work.begin("stage", settings, inputs, libraries)


def edit_params(folder, section, **changes):
    values = yaml.safe_load((folder / "params.yaml").read_text())
    values[section] |= changes
    (folder / "params.yaml").write_text(yaml.safe_dump(values))


EDITS = {
    "code worldmodel/helper.py": lambda folder: (folder / "src/worldmodel/helper.py").write_text("x = 1"),
    "input data/a": lambda folder: (folder / "in/a").write_text("2"),
    "input data/b": lambda folder: (folder / "in/b").write_text("new"),
    "param normalize.min_std": lambda folder: edit_params(folder, "normalize", min_std=0.5),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_is_edited_while_a_stage_runs_is_named_and_is_another_dependency(project, name):
    task = begin(project)
    expected = f"^stage: what it depends on changed while it ran: {name}; run it again$"
    with pytest.raises(ValueError, match=expected), task.record(project / "params.yaml"):
        EDITS[name](project)
    assert begin(project).fingerprint != task.fingerprint


def test_many_edits_are_counted(project):
    task = begin(project)
    for number in range(1, 9):
        (project / "in" / str(number)).touch()
    with (
        pytest.raises(ValueError, match=r"input data/1, .*, input data/5 and 3 more;"),
        task.record(project / "params.yaml"),
    ):
        pass


def test_what_a_stage_does_not_depend_on_may_be_edited(project):
    with begin(project).record(project / "params.yaml"):
        (project / "src/worldmodel/other.py").write_text("x = 1")
        edit_params(project, "train", rho=0.25)


def test_the_same_elsewhere_has_the_same_fingerprint(project, home, monkeypatch):
    before, copy = begin(project).fingerprint, home / "elsewhere"
    shutil.copytree(project, copy)
    use(copy, monkeypatch)
    edit_params(copy, "train", rho=0.25)
    assert begin(copy).fingerprint == before
    assert begin(copy, libraries=("torch",)).fingerprint != before


def test_checkpoints_lie_in_the_main_project(project, home):
    task = begin(project)
    assert task.checkpoints == home / ".checkpoints" / "stage" / task.fingerprint
