import shutil
from pathlib import Path

import pytest
import yaml

from worldmodel.core import params
from worldmodel.core import stage_run as work

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def project(tmp_path):
    """A stage of two files, its input and its params."""
    for name, text in {"src/stage.py": "import helper", "src/helper.py": "", "src/other.py": "", "in/a": "1"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    return tmp_path


def begin(folder, libraries=("numpy",)):
    settings = params.load(folder / "params.yaml", params.NormalizeStage)
    inputs = {"data": folder / "in", "none": folder / "none"}
    return work.begin(folder / "src" / "stage.py", settings, inputs, libraries)


def edit_params(folder, section, **changes):
    values = yaml.safe_load((folder / "params.yaml").read_text())
    values[section] |= changes
    (folder / "params.yaml").write_text(yaml.safe_dump(values))


EDITS = {
    "code helper.py": lambda folder: (folder / "src/helper.py").write_text("x = 1"),
    "input data/a": lambda folder: (folder / "in/a").write_text("2"),
    "input data/b": lambda folder: (folder / "in/b").write_text("new"),
    "param normalize.min_std": lambda folder: edit_params(folder, "normalize", min_std=0.5),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_is_edited_while_a_stage_runs_is_named(project, name):
    expected = f"^stage: what it depends on changed while it ran: {name}; run it again$"
    with pytest.raises(ValueError, match=expected), begin(project).watched(project / "params.yaml"):
        EDITS[name](project)


def test_many_edits_are_counted(project):
    task = begin(project)
    for number in range(1, 9):
        (project / "in" / str(number)).touch()
    with (
        pytest.raises(ValueError, match=r"input data/1, .*, input data/5 and 3 more;"),
        task.watched(project / "params.yaml"),
    ):
        pass


def test_what_a_stage_does_not_depend_on_may_be_edited(project):
    with begin(project).watched(project / "params.yaml"):
        (project / "src/other.py").write_text("x = 1")
        edit_params(project, "train", rho=0.25)


@pytest.mark.parametrize("name", EDITS)
def test_another_dependency_is_another_fingerprint(project, name):
    before = begin(project).fingerprint
    EDITS[name](project)
    assert begin(project).fingerprint != before


def test_the_same_elsewhere_has_the_same_fingerprint(project, tmp_path_factory):
    copy = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(project, copy, dirs_exist_ok=True)
    edit_params(copy, "train", rho=0.25)
    assert begin(copy).fingerprint == begin(project).fingerprint
    assert begin(copy, libraries=("torch",)).fingerprint != begin(project).fingerprint


def test_checkpoints_lie_in_the_main_project(project, home):
    task = begin(project)
    assert task.checkpoints == home / ".checkpoints" / "stage" / task.fingerprint
