"""What every test shares: numbers computed alike on every processor, and tiny projects that are built once."""

from collections.abc import Callable, Iterator
from functools import cache

import hypothesis
import pytest

from projects import VARIANTS, Project, build
from teams import Server, outfit
from test_params import STAGES
from test_pipeline import Copy
from worldmodel.config.params import Compute
from worldmodel.runtime.numerics import settle

# A slow machine is no failure, and the same commit tests the same examples.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")
settle(Compute(history=1, threads=1, numerics="portable", device="cpu"))  # before the first tensor is computed

Projects = Callable[[str], Project]


@pytest.fixture(scope="session")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Projects:
    """Encoder -> a project that is normalized, trained, exported and validated."""
    return cache(lambda encoder: build(tmp_path_factory.mktemp(encoder), encoder))


@pytest.fixture(scope="session")
def project(projects: Projects) -> Project:
    return projects("mlp")


@pytest.fixture(scope="session", params=VARIANTS)
def variant(request: pytest.FixtureRequest, projects: Projects) -> Project:
    """One project after the other."""
    return projects(request.param)


@pytest.fixture(scope="session")
def team_project(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """All stages run under DVC once, and committed; copy or clone it, don't change it."""
    made = Copy(tmp_path_factory.mktemp("team") / "project")
    outfit(made.folder)
    assert made.repro() == (set(STAGES), set())
    made.commit()
    return made


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("s3"))
    started.start()
    yield started
    started.kill()
