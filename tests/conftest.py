"""What every test shares: numbers computed alike on every processor, and tiny projects that are built once."""

import pinned  # noqa: F401  (before NumPy, which goes by it)

# isort: split
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import fsspec
import hypothesis
import pytest

from copies import Copy
from factories import STAGES
from projects import VARIANTS, Project, build, built
from teams import FOREIGN, KEYS, Server
from worldmodel.checkpoints import remote as mirror
from worldmodel.core import locking
from worldmodel.core.params import Compute
from worldmodel.numerics.setup import configure

# A slow machine is no failure, and the same commit tests the same examples.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")
configure(Compute(history=1, threads=1, numerics="portable", device="cpu"))  # before the first tensor is computed
# Ctrl-C reaches tests and what they start, even where the shell has started them in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)

Shared = Callable[[str, Callable[[Path], object]], Path]
Projects = Callable[[str], Project]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes the pipeline's template runs DVC; what takes long comes first, so that all workers end together."""
    for item in items:
        if "template" in getattr(item, "fixturenames", ()):
            item.add_marker("dvc")
    items.sort(key=lambda item: not {"dvc", "slow"} & {mark.name for mark in item.iter_markers()})


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    top = tmp_path_factory.mktemp("homes")
    return (top / str(number) for number in count())


@pytest.fixture(autouse=True)
def home(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where stages that are called in a test keep checkpoints and records, instead of in the project."""
    folder = next(homes)
    folder.mkdir()
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.delenv(mirror.VARIABLE, raising=False)
    return folder


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Name, build -> a folder that the first worker builds and all workers of this run read; no test changes it."""
    base = tmp_path_factory.getbasetemp()
    top = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder_of(name: str, build: Callable[[Path], object]) -> Path:
        lock = top / "shared" / name
        lock.mkdir(parents=True, exist_ok=True)
        folder, done = lock / "made", lock / "done"
        with locking.waiting(lock):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                build(folder)
                done.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def projects(shared: Shared) -> Projects:
    """Encoder -> a project that is normalized, trained, exported and validated; tests only read it."""

    def project_of(encoder: str) -> Project:
        return built(shared(encoder, partial(build, encoder=encoder)), encoder)

    return project_of


@pytest.fixture(scope="session")
def project(projects: Projects) -> Project:
    return projects("mlp")


@pytest.fixture(scope="session", params=VARIANTS)
def variant(request: pytest.FixtureRequest, projects: Projects) -> Project:
    """One project after the other."""
    return projects(request.param)


@pytest.fixture(scope="session")
def template(shared: Shared) -> Copy:
    """Run once from scratch under DVC, and committed; tests only read it, or take a `copy`."""
    return Copy(shared("pipeline", run_once))


def run_once(folder: Path) -> None:
    made = Copy.made(folder)
    assert made.repro() == (set(STAGES), set())
    made.commit()


@pytest.fixture
def copy(template: Copy, tmp_path: Path) -> Copy:
    """The template's, for this test alone."""
    return template.again(tmp_path / "project")


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
