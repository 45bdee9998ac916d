"""A bundle's folder: where it is, whether its graphs are whole and of one export, and what they say of themselves."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors

from worldmodel.core.integrity import require_file, require_same
from worldmodel.core.onnx_weights import flaw
from worldmodel.core.regular import open_regular
from worldmodel.core.typing import Doubles
from worldmodel.graphs import Graph

ENCODER, PREDICTOR, STEP, PRIOR, VALUE = (f"{name}.onnx" for name in ("encoder", "predictor", "step", "prior", "value"))
MANIFEST = "manifest.yaml"
POLICY = (PRIOR, VALUE)  # of one training, and only where it had rewards and actions
# Axes beside the batch; H frames of history and P = H - 1 moves between them, K planned ones, F, A, C and Z numbers.
INPUTS = {
    ENCODER: {"features": "HF", "actions": "PA", "context": "PC"},
    PREDICTOR: {"z": "Z", "actions": "KA", "context": "KC"},
    STEP: {"z": "Z", "action": "A", "context": "C"},
    PRIOR: {"z": "Z"},
    VALUE: {"z": "Z"},
}
FUTURE = {"features": "KF", "std": "KF", "disagreement": "K", "reward": "K", "termination": "K"}
OUTPUTS = {
    ENCODER: {"z": "Z"},
    PREDICTOR: FUTURE | {"z_next": "Z"},
    STEP: {"z": "Z", "z_next": "Z"} | {name: axes.removeprefix("K") for name, axes in FUTURE.items()},
    PRIOR: {"action": "A"},
    VALUE: {"value": ""},
}
NEEDED = {
    ENCODER: {"features", "z"},
    PREDICTOR: {"z", "features", "std"},
    STEP: {"z", "features", "std"},
    PRIOR: {"z", "action"},
    VALUE: {"z", "value"},
}
FLOAT = {"tensor(float)": np.float32}
SCALARS = FLOAT | {"tensor(double)": np.float64}  # of features
REMEDY = "make it with `dvc repro export`"
OF_ONNX = (each for each in vars(onnx_errors).values() if isinstance(each, type) and issubclass(each, Exception))
UNREADABLE: tuple[type[Exception], ...] = (RuntimeError, ValueError, *OF_ONNX)

Range = tuple[Doubles, Doubles]  # lowest and highest of each column


def find_bundle(path: Path) -> Path:
    """The bundle at `path`, or the only one directly below it; links to one bundle are that bundle.

    Raises ValueError where there is none or more than one.
    """
    if (path / ENCODER).is_file():
        return path
    below = path.iterdir() if path.is_dir() else ()  # unlike glob, it tells where it may not look
    folders = sorted(folder for folder in below if (folder / ENCODER).is_file())
    bundles = {folder.resolve(): folder for folder in sorted(folders, key=Path.is_symlink, reverse=True)}
    if len(bundles) == 1:
        return next(iter(bundles.values()))
    names = ", ".join(sorted(folder.name for folder in bundles.values()))
    raise ValueError(
        f"{path}: holds {len(bundles)} bundles ({names}), name one of them"
        if bundles
        else f"{path}: no {ENCODER} here or one folder below; make a bundle with `dvc repro export`"
    )


def open_bundle(bundle: Path, threads: int) -> tuple[dict[str, Graph], dict[str, Any]]:
    """The graphs by their files' names, and the fields of a WorldModel that they tell.

    Raises ValueError that names the file where one is missing, damaged, of another bundle or not to be trusted.
    """
    path = bundle / MANIFEST
    manifest = path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""
    more = [name for name in (STEP, *POLICY) if (bundle / name).exists() or _written(manifest, f"  {name}")]
    names = [ENCODER, PREDICTOR, *more]
    graphs, sizes = dict[str, Graph](), dict[str, int]()
    for name in names:
        graphs[name] = _graph(bundle / name, manifest, threads)
        _measure(bundle / name, graphs[name], sizes)
    run_id = _run_id(bundle, manifest, graphs)
    try:
        return graphs, {"run_id": run_id} | _told(graphs, sizes)
    except ValueError as error:
        raise ValueError(f"{bundle / PREDICTOR}: {error}; {REMEDY}") from None


def _written(manifest: str, key: str) -> str | None:
    """Text under a key, with the spaces before it."""
    found = re.search(rf"^{re.escape(key)}: '?(\w+)'?$", manifest, re.MULTILINE)
    return found[1] if found else None


def _graph(path: Path, manifest: str, threads: int) -> Graph:
    require_file(path, REMEDY)
    with open_regular(path) as file:
        content = file.read()
    digest = _written(manifest, f"  {path.name}")
    if digest or re.search("^files:", manifest, re.MULTILINE):
        require_same(path, hashlib.sha256(content).hexdigest(), digest or "unknown", REMEDY)
    try:
        broken = flaw(content)
        if not broken:
            return Graph(content, threads)
    except UNREADABLE as error:
        broken = f"no readable ONNX graph ({' '.join(str(error).split())[-300:]})"
    raise ValueError(f"{path}: {broken}; {REMEDY}")


def _measure(path: Path, graph: Graph, sizes: dict[str, int]) -> None:
    """Add the sizes that a graph declares. Raises ValueError where they are not those of the graphs before it."""
    there = graph.inputs.keys() | graph.outputs.keys()
    unknown = (graph.inputs.keys() - INPUTS[path.name]) | (graph.outputs.keys() - OUTPUTS[path.name])
    if unknown or not NEEDED[path.name] <= there or "action_kind" not in graph.metadata:
        raise ValueError(
            f"{path}: it has {', '.join(graph.inputs)} -> {', '.join(graph.outputs)} and metadata "
            f"{', '.join(graph.metadata) or 'none'}, expected {', '.join(INPUTS[path.name])} -> "
            f"{', '.join(OUTPUTS[path.name])} as far as the logs have them, and `action_kind`; {REMEDY}"
        )
    for known, found in ((INPUTS[path.name], graph.inputs), (OUTPUTS[path.name], graph.outputs)):
        for name, shape in found.items():
            axes, given = known[name], found is graph.inputs
            fits = graph.types[name] in (FLOAT if given and name != "features" else SCALARS) and len(shape) == 1 + len(
                axes
            )
            fits = fits and not (given and isinstance(shape[0], int))
            for axis, size in zip(axes, shape[1:], strict=False):
                free = not isinstance(size, int)
                fits = fits and (axis == "K" or not given if free else size == sizes.setdefault(axis, size) > 0)
            if not fits:
                expected = ", ".join(["batch", *(str(sizes.get(axis, axis)) for axis in axes)])
                raise ValueError(
                    f"{path}: {name} is {graph.types[name]} {shape}, expected floats [{expected}]; {REMEDY}"
                )


def _run_id(bundle: Path, manifest: str, graphs: Mapping[str, Graph]) -> str:
    """What the graphs say; the manifest, where they are of an earlier format that does not."""
    said = {name: graph.metadata.get("run_id") for name, graph in graphs.items()}
    if len(set(said.values())) > 1:
        found = ", ".join(f"{name} of bundle {run_id or 'unknown'}" for name, run_id in said.items())
        raise ValueError(f"{bundle}: {found.replace(' of', ' is of', 1)}; take all of them from one bundle")
    run_id = said[ENCODER] or _written(manifest, "run_id")
    if not run_id:
        raise ValueError(f"{bundle}: no run_id in the graphs' metadata or in {MANIFEST}; run `dvc repro export`")
    return run_id


def _told(graphs: Mapping[str, Graph], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Fields of a WorldModel. Raises ValueError for what cannot be so."""
    said, history = graphs[PREDICTOR].metadata, sizes["H"]
    counts = {part: sizes.get(part[0].upper(), 0) for part in ("feature", "action", "context")}
    _require_takers(graphs, counts, history)
    if "horizon" not in said and "K" not in sizes:
        raise ValueError("its metadata has no horizon")
    horizon = int(_number(said, "horizon", sizes.get("K", 0), whole=True))
    if sizes.get("P", history - 1) != history - 1:
        raise ValueError(f"{sizes['P']} actions lie between {history} frames, expected {history - 1}")
    if horizon != sizes.get("K", horizon):
        raise ValueError(f"its metadata says horizon {horizon}, and it predicts {sizes['K']} frames")
    if VALUE in graphs and ("discount" not in said or "z_next" not in graphs[PREDICTOR].outputs):
        raise ValueError(f"it tells no z_next, or its metadata no discount, without which {VALUE} says nothing")
    kinds = ("discrete", "continuous") if counts["action"] else ("none",)
    _one_of(said, "distribution", ("normal", "student-t"))
    return {
        "history": history,
        "horizon": horizon,
        "longest": sizes.get("K"),
        **{f"{part}_count": count for part, count in counts.items()},
        "z_dim": sizes["Z"],
        "discrete": _one_of(said, "action_kind", kinds) == "discrete",
        "masked": _one_of(said, "missing", ("mask",)) == "mask",
        "cold_starts": _one_of(said, "format", ("1", "2")) == "2",
        "interval_s": _number(said, "interval_s", 0.0) or None,
        "feature_names": _names(said, counts["feature"]),
        "degrees_of_freedom": _number(said, "degrees_of_freedom", math.inf, above=2),
        "discount": _number(said, "discount", 0.0, below=1),
        "unknown_reward": _number(said, "unknown_reward", 0.0, above=-math.inf),
        **{f"{part}_range": _range(said, part, count) for part, count in counts.items()},
    }


def _require_takers(graphs: Mapping[str, Graph], counts: Mapping[str, int], history: int) -> None:
    """Every graph takes actions and context, or none does; the encoder has no place for them with one frame."""
    for part, name in (("action", "actions"), ("context", "context")):
        found = [each for each, graph in graphs.items() if graph.inputs.keys() & {part, name}]
        expected = [each for each in graphs if counts[part] and each not in POLICY and (history > 1 or each != ENCODER)]
        if found != expected:
            raise ValueError(f"{name} go into {', '.join(found)}, expected {', '.join(expected)}")


def _number(
    said: Mapping[str, str], key: str, default: float, above: float = 0, below: float = math.inf, whole: bool = False
) -> float:
    if key not in said:
        return default
    try:
        value = float(said[key])
    except ValueError:
        value = math.nan
    if above < value < below and not (whole and value % 1):
        return value
    kind = "whole number" if whole else "number"
    limit = f" and below {below:g}" if below < math.inf else ""
    raise ValueError(f"its metadata says {key} {said[key][:80]!r}, expected a {kind} above {above:g}{limit}")


def _one_of(said: Mapping[str, str], key: str, known: Sequence[str]) -> str | None:
    if key in said and said[key] not in known:
        raise ValueError(f"its metadata says {key} {said[key][:80]!r}, expected {' or '.join(known)}")
    return said.get(key)


def _names(said: Mapping[str, str], count: int) -> tuple[str, ...]:
    try:
        names = json.loads(said.get("feature_names", "[]"))
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or len(names) not in (0, count) or not all(isinstance(each, str) for each in names):
        raise ValueError(f"its metadata says feature_names {said['feature_names'][:80]!r}, expected {count} texts")
    return tuple(names)


def _range(said: Mapping[str, str], part: str, count: int) -> Range | None:
    keys = [f"{part}_{end}" for end in ("min", "max")]
    if not said.keys() & keys:
        return None
    try:
        low, high = (np.array(json.loads(said[key]), np.float64) for key in keys)
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError):
        low = high = np.empty(0)
    if not low.shape == high.shape == (count,) or not (np.isfinite([low, high]).all() and (low <= high).all()):
        found = [said.get(key, "")[:80] for key in keys]
        raise ValueError(f"its metadata says {keys} {found}, expected {count} finite numbers each, in order")
    return low, high
