"""Calls on a cluster that Ray runs already. What a node that dies was working on, or held, is made again elsewhere.

Nodes need the same Python and libraries as here, and where calls name files, a file system that all of them see.
"""

import logging
import os
import pickle
import platform
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from worldmodel.core import jobs
from worldmodel.core.terminal import variables
from worldmodel.core.versions import installed

LIBRARIES = ("numpy", "torch")  # whose version decides bits
PASSED = ("ATEN_", "CUBLAS_", "MKL_", "NPY_", "ONEDNN_", "OPENBLAS_", "WORLDMODEL_PINNED")  # how this process computes
AHEAD = 2  # calls for each worker that are handed over before they are asked for
SMALL = (str, bytes, int, float, bool, type(None), Path, tuple)

Result = TypeVar("Result")


def cores() -> int:
    """Of all nodes. Raises ValueError where the cluster does not answer."""
    return max(1, int(_connected().cluster_resources().get("CPU", 1)))


def run_all(
    function: Callable[..., Result],
    calls: Sequence[tuple[Any, ...]],
    before: Callable[[], object] | None,
    count: int,
) -> Iterator[Result]:
    """As jobs.run_all, `count` at once. Raises ValueError where a node's versions are others than those here."""
    ray = _connected()
    remote = ray.remote(_called).options(num_cpus=1, max_retries=jobs.ATTEMPTS, name=function.__name__)
    here, versions, shared = str(Path.cwd()), _versions(), _shared(calls)
    waiting: deque[Any] = deque()
    try:
        for call in calls:
            if len(waiting) >= AHEAD * count:
                yield _result(ray, waiting.popleft(), function)
            given = [shared.get(id(each), each) for each in call]
            waiting.append(remote.remote(function, before, here, versions, *given))
        while waiting:
            yield _result(ray, waiting.popleft(), function)
    finally:
        for reference in waiting:  # Ctrl-C, or a call that failed
            ray.cancel(reference, force=True)


def _result(ray: Any, reference: Any, function: Callable[..., Result]) -> Result:
    try:
        packed: bytes = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, Exception) else error from None
    except ray.exceptions.RayError as error:
        jobs.give_up(function, str(error).partition("\n")[0])
    result: Result = pickle.loads(packed)
    return result


def _called(
    function: Callable[..., Result],
    before: Callable[[], object] | None,
    folder: str,
    versions: dict[str, str],
    *call: Any,
) -> bytes:
    """On a node, whose libraries must be those here. Pickled: into arrays that Ray hands over nobody may write."""
    if (own := _versions()) != versions:
        differ = ", ".join(
            f"{name} {own[name]} (here {versions.get(name)})" for name in own if own[name] != versions.get(name)
        )
        raise ValueError(f"node {platform.node()} has {differ}; install what is here on every node: {versions}")
    if here := Path(folder).is_dir():
        os.chdir(folder)
    try:
        return pickle.dumps(jobs.called(function, call, before))
    except FileNotFoundError as error:
        if here:
            raise
        raise ValueError(
            f"node {platform.node()} does not see {folder}, and {error.filename} neither; put the project on a file "
            "system that all nodes share, at one path"
        ) from None


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | installed([name for name in LIBRARIES if find_spec(name)])


def _shared(calls: Sequence[tuple[Any, ...]]) -> dict[int, Any]:
    """References to what several calls are given, which then travels to each node once; by id."""
    given = [each for call in calls for each in call if not isinstance(each, SMALL)]
    counts = Counter(map(id, given))
    ray = _connected()
    return {number: ray.put(each) for number, each in {id(each): each for each in given}.items() if counts[number] > 1}


def _own_path() -> str:
    """Folders that modules are imported from here, without those of what is installed."""
    folders = [Path(each).resolve() for each in sys.path]
    own = [str(each) for each in folders if each.is_dir() and not each.is_relative_to(sys.prefix)]
    return os.pathsep.join(each for each in own if not each.startswith(sys.base_prefix))


def _connected() -> Any:
    """Ray's module, connected to the cluster at RAY_ADDRESS; its workers get this package and begin as `pin` asks."""
    address = os.environ[jobs.CLUSTER]
    try:
        import ray
    except ImportError:
        raise ValueError(
            f"{jobs.CLUSTER} is set, and Ray is not installed here; `pip install worldmodel[cluster]`, or unset it"
        ) from None
    if ray.is_initialized():
        return ray
    package = str(Path(__file__).parents[1])
    environment = {name: text for name, text in os.environ.items() if name.startswith(PASSED)} | variables()
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": _own_path()}
    try:
        ray.init(
            address=address,
            runtime_env={"py_modules": [package], "env_vars": environment},
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{jobs.CLUSTER}={address}: no cluster of Ray answers there ({str(error).strip().partition('.')[0]}); "
            "start one (`ray start --head`), give its token (RAY_AUTH_MODE=token), or unset the variable"
        ) from None
    return ray
