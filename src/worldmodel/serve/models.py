"""A bundle as models that a client calls by the names of its graphs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from worldmodel.bundle import PREDICTOR, STEP
from worldmodel.client import WorldModel
from worldmodel.graphs import Graph
from worldmodel.serve.tensors import Array, Refused, Spec

TYPES = {"tensor(float)": "FP32", "tensor(double)": "FP64"}
PER_FRAME = ("disagreement", "reward", "termination")  # a number each
Arrays = dict[str, Array]
Function = Callable[[Mapping[str, Array]], Arrays]


@dataclass(frozen=True)
class Model:
    """What takes tensors with one row a case and answers with as many rows."""

    inputs: tuple[Spec, ...]  # the first one must be there, what the others must be the function says
    outputs: tuple[Spec, ...]
    run: Function | None  # raises ValueError for arrays that it cannot take; None: a planner decides
    integers: bool = False  # actions may be the numbers of actions, without the last axis

    def sizes(self, given: Mapping[str, Array], most: int) -> tuple[int, int]:
        """Rows of every tensor, and frames in all of them.

        Raises Refused for other tensors than it takes, and for more than `most` frames.
        """
        known = {spec.name: spec for spec in self.inputs}
        if given.keys() - known or self.inputs[0].name not in given:
            found = ", ".join(str(name)[:40] for name in given) or "none"
            raise Refused(f"inputs are {found}, expected {', '.join(known)}")
        frames = 0
        for name, array in given.items():
            axes = len(known[name].shape)
            numbered = self.integers and name in ("action", "actions") and array.dtype.kind in "iu"
            if array.ndim != axes and not (numbered and array.ndim == axes - 1):
                raise Refused(f"{name} has shape {list(array.shape)}, expected {list(known[name].shape)} (-1: any)")
            frames = max(frames, array.shape[0] * (array.shape[1] if axes == 3 else 1))
        sizes = {name: len(array) for name, array in given.items()}
        if len(set(sizes.values())) > 1:
            raise Refused(f"inputs have different numbers of rows: {sizes}")
        if frames > most:
            raise Refused(f"the request has {frames} frames, expected {most} at most; send fewer rows at once", 413)
        return sizes[self.inputs[0].name], frames


def models_of(model: WorldModel) -> dict[str, Model]:
    """By name."""

    def encode(given: Mapping[str, Array]) -> Arrays:
        return {"z": model.encode(**given)}

    def predict(given: Mapping[str, Array]) -> Arrays:
        if "z_next" not in model.graphs[PREDICTOR].outputs:
            return _told(model.predict(**given)._asdict())
        z, future = model.advance(**given)
        return {"z_next": z} | _told(future._asdict())

    def step(given: Mapping[str, Array]) -> Arrays:
        z, frame = model.step(**given)
        return {following: z} | _told(frame._asdict())

    functions: dict[str, Function] = {"encoder": encode, "predictor": predict}
    if STEP in model.graphs:
        following = "z_next" if "z_next" in model.graphs[STEP].outputs else "z"
        functions["step"] = step
    if model.has_policy:
        functions["prior"] = lambda given: {"action": model.prior(given["z"])}
        functions["value"] = lambda given: {"value": model.value(given["z"])}
    loose = {"encoder": model.cold_starts, "predictor": True}
    return {
        name: Model(*_specs(model.graphs[f"{name}.onnx"], loose.get(name, False)), function, model.discrete)
        for name, function in functions.items()
    }


def _told(future: Mapping[str, Any]) -> Arrays:
    return {name: array for name, array in future.items() if array is not None}


def _specs(graph: Graph, loose: bool) -> tuple[tuple[Spec, ...], tuple[Spec, ...]]:
    """Inputs and outputs; `loose`: a client may send other numbers of frames than the graph takes."""

    def spec(name: str, shape: list[Any]) -> Spec:
        sizes = [size if isinstance(size, int) else -1 for size in shape]
        if loose and (len(sizes) == 3 or name in PER_FRAME):
            sizes[1] = -1
        return Spec(name, TYPES[graph.types[name]], tuple(sizes))

    inputs, outputs = (tuple(spec(*each) for each in tensors.items()) for tensors in (graph.inputs, graph.outputs))
    return inputs, outputs
