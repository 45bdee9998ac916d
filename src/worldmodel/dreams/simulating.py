"""Dreams from a simulator of the user's: a function that continues a real start, under other physics or other actions.

dreams.simulator names it as module:function; the module is a file of the folder that the pipeline runs in, and so is
what it imports, unless it is installed: an edit of any of them makes other dreams. The
function is a Simulator: it gets a Start and a random generator of the dream's own, and returns a Trajectory. The same
start and generator must give the same trajectory, whatever was dreamed before.
"""

import importlib
import os
import site
import sys
import sysconfig
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.core.fingerprint import module_closure
from worldmodel.core.params import Dreams
from worldmodel.episodes.schema import ActionSpace, Episode
from worldmodel.trajectory import Start, Trajectory, arrays_of

Result = TypeVar("Result")

LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
PACKAGE = str(Path(__file__).parents[1])
NOT_TRACKED = (
    *LIBRARIES,
    site.getusersitepackages(),
    PACKAGE,
)  # by file: versions and code of the stage stand for them


class Simulator(Protocol):
    def __call__(self, start: Start, rng: np.random.Generator, /) -> Trajectory: ...


def simulate_dreams(train: Sequence[Episode], action_space: ActionSpace, dreams: Dreams, history: int) -> list[Episode]:
    """dreams.episodes dreams, each from a start of its own; the first ones stay the same where more are asked for.

    Raises ValueError where no episode is longer than the history, and where the simulator cannot be imported, fails or
    returns what is no trajectory: with its name, the dream's number, what was found and what was expected.
    """
    known = set(sys.modules)
    simulator = load(dreams.simulator)
    firsts = _firsts(train, history, dreams.length)
    dreamed = [
        _dream(simulator, number, train, firsts, action_space, dreams, history)
        for number in tqdm(range(dreams.episodes), desc="simulator", unit="dream", mininterval=1.0)
    ]
    _require_hashed(dreams.simulator, known)
    return dreamed


def simulator_files(name: str) -> list[Path]:
    """The file of the function, the packages that it lies in, and every file of the project that they import.

    Raises ValueError where the project has no such file, or where one is no Python.
    """
    module = name.split(":")[0]
    path = Path(*module.split("."))
    files = module_closure(module, [Path(), path.parent, Path("src")])
    if not files:
        raise ValueError(
            f"dreams.simulator {name}: found neither {path}.py nor {path}/__init__.py in {Path.cwd()}; expected a file "
            "of the project, which may import what is installed"
        )
    return files


def load(name: str) -> Simulator:
    """The function that module:function names. Raises ValueError where there is none."""
    (module, function), files = name.split(":"), simulator_files(name)
    site.addsitedir(str(Path.cwd()))
    who = f"dreams.simulator {name}"
    problem = f"{who}: cannot import {module} from {Path.cwd()} or what is installed"
    imported = _guarded(problem, lambda: importlib.import_module(module))
    place = Path(getattr(imported, "__file__", None) or "no file")
    if place.resolve() not in {path.resolve() for path in files}:
        raise ValueError(
            f"{who}: {module} came from {place}, expected it from {Path.cwd()}; take the other one off PYTHONPATH, or "
            "rename yours"
        )
    if not hasattr(imported, function):
        raise ValueError(f"{who}: found no {function} in {module}, expected a function of (start, rng)")
    found: Simulator = getattr(imported, function)
    if not callable(found):
        raise ValueError(f"{who}: found {type(found).__name__}, expected a function of (start, rng)")
    return found


def _require_hashed(name: str, known: Collection[str]) -> None:
    """Raise ValueError where something was imported that neither is installed nor counts as the simulator's code."""
    project, added = Path.cwd().resolve(), os.environ.get("PYTHONPATH", "").split(os.pathsep)
    foreign = [Path(folder).resolve() for folder in added if folder]
    own = {path.resolve() for path in simulator_files(name)}
    new = (getattr(module, "__file__", None) for module in map(sys.modules.get, sys.modules.keys() - known))
    for path in sorted(Path(file).resolve() for file in new if file and not file.startswith(NOT_TRACKED)):
        if path not in own and any(path.is_relative_to(folder) for folder in (project, *foreign)):
            raise ValueError(
                f"dreams.simulator {name}: it imported {path}, where an edit would rerun nothing; put it into the "
                "project's folder and import it by its name, or install it"
            )


def dream_times(source: Episode, begin: int, history: int, after: int) -> NDArray[np.float64]:
    """Logged times of a history, then as many more in the episode's median step."""
    logged = source.timestamps[begin : begin + history]
    step = float(np.median(np.diff(source.timestamps)))
    return np.concatenate([logged, logged[-1] + step * np.arange(1, after + 1)])


def start_identity(source: Episode, begin: int) -> dict[str, Any]:
    """meta.start of a dream: prepare checks that this episode is trained on."""
    return {"agent_id": source.agent_id, "episode": source.name, "segment": source.segment, "frame": begin}


def _firsts(train: Sequence[Episode], history: int, length: int) -> NDArray[np.int64]:
    """(episode, first frame) of every start, [S, 2]; an episode without room for the whole length has one start."""
    rooms = [(index, episode.length - history) for index, episode in enumerate(train) if episode.length > history]
    if not rooms:
        raise ValueError(
            f"a dream needs a train episode of more than train.history = {history} frames, "
            f"the longest of {len(train)} has {max((episode.length for episode in train), default=0)}"
        )
    return np.array([(index, first) for index, room in rooms for first in range(max(room - length, 0) + 1)])


def _start(source: Episode, begin: int, history: int, length: int) -> Start:
    last = begin + history - 1

    def part(array: NDArray[Any] | None, first: int, end: int) -> Any:
        if array is None:
            return None
        copied = array[first:end].copy()
        copied.flags.writeable = False
        return copied

    return Start(
        agent_id=source.agent_id,
        episode=source.name,
        frame=begin,
        length=length,
        features=part(source.features, begin, last + 1),
        actions=part(source.actions, begin, last),
        rewards=part(source.rewards, begin, last),
        planned_actions=part(source.actions, last, last + length + 1),
        context=part(source.context, begin, last + length + 1),
    )


def _dream(
    simulator: Simulator,
    number: int,
    train: Sequence[Episode],
    firsts: NDArray[np.int64],
    action_space: ActionSpace,
    dreams: Dreams,
    history: int,
) -> Episode:
    who = f"dreams.simulator {dreams.simulator}, dream {number}"
    rng = np.random.default_rng([dreams.seed, number])
    index, begin = firsts[rng.integers(len(firsts))].tolist()
    source = train[index]
    start = _start(source, begin, history, dreams.length)
    found = _guarded(who, lambda: simulator(start, rng))
    try:
        arrays = arrays_of(found, start, action_space)
    except ValueError as error:
        raise ValueError(f"{who}: {error}") from None
    return Episode(
        agent_id=source.agent_id,
        name=f"dream-{number:06d}",
        timestamps=dream_times(source, begin, history, len(arrays["features"]) - history),
        source="dream",
        terminal=bool(found.terminal) and len(arrays["features"]) == len(np.asarray(found.features)),
        provenance={"simulator": dreams.simulator, "seed": dreams.seed, "start": start_identity(source, begin)},
        **arrays,
    )


def _guarded(who: str, call: Callable[[], Result]) -> Result:
    """What the call returns; whatever the user's code raises becomes one ValueError that says where."""
    try:
        return call()
    except (Exception, SystemExit) as error:  # it is not our code, so nothing is known of what it raises
        message = " ".join(str(error).split())
        raise ValueError(f"{who}: {type(error).__name__}: {message}{_where(error.__traceback__)}") from error


def _where(trace: TracebackType | None) -> str:
    """The last line that the trace goes through and that belongs to no library and not to us; no text for none."""
    lines = [
        f"{os.path.relpath(frame.filename)}:{frame.lineno}"
        for frame in traceback.extract_tb(trace)
        if not frame.filename.startswith((__file__, "<", *LIBRARIES))
    ]
    return f" (at {lines[-1]})" if lines else ""
