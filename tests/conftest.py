"""What every test shares: numbers computed alike on every processor, and tiny projects that are built once."""

import pinned  # noqa: F401  (before NumPy, which goes by it)

# isort: split
import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import fsspec
import hypothesis
import pytest

from copies import Copy
from factories import STAGES
from projects import VARIANTS, Project, build
from teams import FOREIGN, KEYS, Server, outfit
from worldmodel.checkpoints import remote as mirror
from worldmodel.core.params import Compute
from worldmodel.numerics.setup import configure

# A slow machine is no failure, and the same commit tests the same examples.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")
configure(Compute(history=1, threads=1, numerics="portable", device="cpu"))  # before the first tensor is computed
# Ctrl-C reaches tests and what they start, even where the shell has started them in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where stages that are called in a test keep checkpoints and records, instead of in the project."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.delenv(mirror.VARIABLE, raising=False)
    return folder


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
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Run once from scratch under DVC, and committed. A test that leaves it other than it was makes one `again`."""
    made = Copy.made(tmp_path_factory.mktemp("pipeline") / "project")
    assert made.repro() == (set(STAGES), set())
    made.commit()
    return made


@pytest.fixture(scope="session")
def team_project(copy: Copy, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """What `copy` is, with what a team's project has besides; copy or clone it, don't change it."""
    made = copy.again(tmp_path_factory.mktemp("team") / "project")
    outfit(made.folder)
    made.commit()
    return made


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("s3"))
    started.start()
    yield started
    started.kill()


@pytest.fixture
def client(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Lets this process be a client of the server; returns its variables."""
    variables = KEYS | {"AWS_ENDPOINT_URL": server.endpoint, "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    variables["AWS_MAX_ATTEMPTS"] = "1"
    for name in [name for name in os.environ if name.startswith(FOREIGN) and name != "DVC_ROOT"]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    return variables
