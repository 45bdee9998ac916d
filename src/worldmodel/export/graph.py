"""torch -> ONNX: raw units in and out, dynamic batch, the same bytes wherever it is made.

encoder    features [batch, H, F], actions [batch, H-1, A], context [batch, H-1, C]  ->  z [batch, Z]
predictor  z [batch, Z], actions [batch, K, A], context [batch, K, C], any K
           ->  features [batch, K, F], std [batch, K, F], disagreement, reward, termination [batch, K]
step       z [batch, Z], action [batch, A], context [batch, C]
           ->  z_next [batch, Z], features [batch, F], std [batch, F], disagreement, reward, termination [batch]
prior      z [batch, Z]  ->  action [batch, A]
value      z [batch, Z]  ->  value [batch]
Prior and value are those of a policy that was trained in the model, where there is one; then the predictor also answers
z_next [batch, Z], that of the last frame.
Inputs and outputs that the logs do not have (actions, context; reward, termination) are absent, and so are the
encoder's actions and context when H = 1. With neither actions nor context, the predictor predicts `horizon` frames.
Features are float64 where float32 would lose what moves; NaN is a missing reading where the model is masked. Every
graph carries the metadata of the bundle.
"""

import logging
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from worldmodel.arrays.affine import Affine, Coded
from worldmodel.arrays.scaler import Scaler
from worldmodel.export.rollout import Rollout
from worldmodel.model.policy import Policy
from worldmodel.model.shape import Shape
from worldmodel.model.world_model import WorldModel


class Scale(nn.Module):
    """An Affine as tensors."""

    center: Tensor
    scale: Tensor
    sources: Tensor

    def __init__(self, affine: Affine) -> None:
        super().__init__()
        self.columns = affine.columns if any(each.kind != "value" for each in affine.columns) else ()
        self.register_buffer("center", torch.from_numpy(np.array(affine.center)))
        self.register_buffer("scale", torch.from_numpy(np.array(affine.scale)))
        self.register_buffer("sources", torch.from_numpy(np.array(affine.sources)))

    def transform(self, raw: Tensor) -> Tensor:
        """[..., F] -> [..., G] float32"""
        if self.columns:
            raw = torch.cat([_expand(each, raw[..., at]) for at, each in enumerate(self.columns)], dim=-1)
        return ((raw - self.center) / self.scale).float()

    def inverse(self, standardized: Tensor) -> Tensor:
        """[..., G] -> [..., F]"""
        wide = standardized * self.scale + self.center
        if not self.columns:
            return wide
        return torch.stack([_contract(each, part) for each, part in self._parts(wide)], dim=-1)

    def raw_std(self, mean: Tensor, std: Tensor) -> Tensor:
        """Of standardized predictions [..., G] -> of raw ones [..., F], each in the unit of its column."""
        spread = std * self.scale
        if not self.columns:
            return spread
        wide = self._parts(mean * self.scale + self.center.float())
        parts = [_std(each, part, own) for (each, part), (_, own) in zip(wide, self._parts(spread), strict=True)]
        return torch.stack(parts, dim=-1)

    def _parts(self, wide: Tensor) -> Iterator[tuple[Coded, Tensor]]:
        """Each raw column, and its standardized ones."""
        return zip(self.columns, torch.split(wide, [each.width for each in self.columns], dim=-1), strict=True)


def _expand(column: Coded, raw: Tensor) -> Tensor:
    """[...] -> [..., width]"""
    if column.kind == "value":
        return raw[..., None]
    if column.kind == "angle":
        radians = (raw * (2 * math.pi / column.turn)).float()
        return torch.stack([radians.sin(), radians.cos()], dim=-1)
    return (raw[..., None] == torch.tensor(column.classes, dtype=raw.dtype)).float()


def _contract(column: Coded, wide: Tensor) -> Tensor:
    """[..., width] -> [...]"""
    if column.kind == "value":
        return wide[..., 0]
    if column.kind == "angle":
        turned = torch.atan2(wide[..., 0].float(), wide[..., 1].float()) * (column.turn / (2 * math.pi))
        return torch.where(turned < column.least, turned + column.turn, turned).to(wide.dtype)
    return torch.tensor(column.classes, dtype=wide.dtype)[wide.argmax(dim=-1)]


def _std(column: Coded, wide: Tensor, std: Tensor) -> Tensor:
    """Of what `_contract` makes of mean and std, [..., width] each -> [...].

    Of an angle, to first order and at most that of any angle; of a category, of its values, each as likely as its
    column says, around the one that is predicted.
    """
    if column.kind == "value":
        return std[..., 0]
    if column.kind == "angle":
        across = (wide.flip(-1) * std).square().sum(-1).sqrt() / wide.square().sum(-1).clamp(min=1e-6)
        return across.clamp(max=math.pi / math.sqrt(3)) * (column.turn / (2 * math.pi))
    likely, classes = wide.clamp(min=0), torch.tensor(column.classes, dtype=wide.dtype)
    apart = (classes - _contract(column, wide)[..., None]).square()
    return ((likely * apart).sum(-1) / likely.sum(-1).clamp(min=1e-6)).sqrt()


class RawEncoder(nn.Module):
    def __init__(self, model: WorldModel, scaler: Scaler) -> None:
        super().__init__()
        self.model, self.features, self.known_ahead = model, Scale(scaler.features), KnownAhead(scaler)

    def forward(self, features: Tensor, actions: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        shape, frames = self.model.shape, self.features.transform(features)
        past = self.known_ahead(actions, context, frames.new_zeros(frames.shape[0], shape.history - 1, shape.actions))
        if not shape.masked:
            return self.model.encode(frames, past)
        missing = features.isnan()[..., self.features.sources]
        return self.model.encode(frames.masked_fill(missing, 0), past, (~missing).float())


class RawPredictor(nn.Module):
    """One tensor for each of `outputs`."""

    def __init__(self, model: WorldModel, scaler: Scaler, goes_on: bool = False) -> None:
        """goes_on: whether z after the last frame is told as well."""
        super().__init__()
        self.model, self.features, self.known_ahead = model, Scale(scaler.features), KnownAhead(scaler)
        self.goes_on = goes_on
        self.rewards = None if scaler.rewards is None else Scale(scaler.rewards)

    def forward(self, z: Tensor, actions: Tensor | None = None, context: Tensor | None = None) -> tuple[Tensor, ...]:
        neither = z.new_zeros(z.shape[0], self.model.shape.horizon, self.model.shape.actions)
        after, *found = self.advance(z, self.known_ahead(actions, context, neither))
        return (*found, after) if self.goes_on else tuple(found)

    def advance(self, z: Tensor, plan: Tensor) -> tuple[Tensor, ...]:
        """z [B, Z], standardized actions and context [B, K, A + C] -> z after the last [B, Z], and `outputs`."""
        z, prediction = self.model.advance(z, plan)
        features = self.features.inverse(prediction.features)
        std = self.features.raw_std(prediction.features, prediction.log_std.exp())
        found = [z, features, std, prediction.disagreement]
        if prediction.rewards is not None and self.rewards is not None:
            found.append(self.rewards.inverse(prediction.rewards))
        if prediction.termination is not None:
            found.append(prediction.termination.sigmoid())
        return tuple(found)


class RawStep(RawPredictor):
    """The next z, then `outputs`, of one frame and without its axis."""

    def forward(self, z: Tensor, action: Tensor | None = None, context: Tensor | None = None) -> tuple[Tensor, ...]:
        plan = self.known_ahead(action, context, z.new_zeros(z.shape[0], self.model.shape.actions))
        z, *found = self.advance(z, plan[:, None])
        return z, *(each.squeeze(1) for each in found)


class RawPrior(nn.Module):
    low: Tensor
    high: Tensor

    def __init__(self, policy: Policy, scaler: Scaler) -> None:
        super().__init__()
        self.policy, self.actions = policy, Scale(scaler.actions)
        self.register_buffer("low", self.actions.inverse(policy.low))
        self.register_buffer("high", self.actions.inverse(policy.high))

    def forward(self, z: Tensor) -> Tensor:
        return self.actions.inverse(self.policy(z)).clamp(self.low, self.high)


class RawValue(nn.Module):
    def __init__(self, policy: Policy, scaler: Scaler) -> None:
        super().__init__()
        assert scaler.rewards is not None
        self.policy, self.unit = policy, float(scaler.rewards.spread[0])

    def forward(self, z: Tensor) -> Tensor:
        return self.policy.value(z) * self.unit


def outputs(shape: Shape) -> list[str]:
    """Of a prediction, in order."""
    return ["features", "std", "disagreement"] + ["reward"] * shape.rewards + ["termination"] * shape.terminals


class KnownAhead(nn.Module):
    """Actions and context as the model takes them."""

    def __init__(self, scaler: Scaler) -> None:
        super().__init__()
        self.actions, self.context = Scale(scaler.actions), Scale(scaler.context)

    def forward(self, actions: Tensor | None, context: Tensor | None, neither: Tensor) -> Tensor:
        """[..., A] and [..., C], raw units -> [..., A + C] standardized; `neither` without both."""
        given = ((self.actions, actions), (self.context, context))
        parts = [scale.transform(raw) for scale, raw in given if raw is not None]
        return torch.cat(parts, dim=-1) if len(parts) > 1 else [*parts, neither][0]


def encoder_graph(model: WorldModel, scaler: Scaler, metadata: dict[str, str], opset: int) -> bytes:
    history, wide = model.shape.history, torch.float64 if scaler.features.center.dtype == np.float64 else torch.float32
    inputs = {"features": torch.zeros(2, history, scaler.features.width, dtype=wide)}
    return _graph(RawEncoder(model, scaler), inputs | _known_ahead(scaler, history - 1), ["z"], metadata, opset)


def predictor_graph(
    model: WorldModel, scaler: Scaler, metadata: dict[str, str], opset: int, goes_on: bool = False
) -> bytes:
    ahead = _known_ahead(scaler, max(2, model.shape.horizon))
    inputs = {"z": torch.zeros(2, model.shape.z_dim)} | ahead
    module, named = RawPredictor(Rollout(model), scaler, goes_on), [*outputs(model.shape), *["z_next"] * goes_on]
    return _graph(module, inputs, named, metadata, opset, any_length=tuple(ahead))


def step_graph(model: WorldModel, scaler: Scaler, metadata: dict[str, str], opset: int) -> bytes:
    inputs = {"z": torch.zeros(2, model.shape.z_dim)}
    for name, each in _known_ahead(scaler, 1).items():
        inputs[name.replace("actions", "action")] = each[:, 0]
    return _graph(RawStep(Rollout(model), scaler), inputs, ["z_next", *outputs(model.shape)], metadata, opset)


def policy_graphs(policy: Policy, scaler: Scaler, metadata: dict[str, str], opset: int) -> tuple[bytes, bytes]:
    """Prior and value."""
    inputs = {"z": torch.zeros(2, policy.z_dim)}
    modules = ((RawPrior(policy, scaler), "action"), (RawValue(policy, scaler), "value"))
    prior, value = (_graph(module, inputs, [output], metadata, opset) for module, output in modules)
    return prior, value


def _known_ahead(scaler: Scaler, frames: int) -> dict[str, Tensor]:
    widths = {"actions": scaler.actions.width, "context": scaler.context.width}
    return {name: torch.zeros(2, frames, width) for name, width in widths.items() if width and frames}


def _graph(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: list[str],
    metadata: dict[str, str],
    opset: int,
    any_length: tuple[str, ...] = (),
) -> bytes:
    """any_length: inputs that may have any number of frames, all the same."""
    batch, frames = torch.export.Dim("batch", min=1), torch.export.Dim("K", min=1)
    torch.compiler.reset()  # else what was exported before decides whether the loop has any length
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            kwargs=inputs,
            input_names=list(inputs),
            output_names=outputs,
            opset_version=opset,
            dynamic_shapes={name: {0: batch} | ({1: frames} if name in any_length else {}) for name in inputs},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    _strip(graph)
    graph.ir_version = onnx.helper.find_min_ir_version_for(graph.opset_import)  # so that older runtimes load it
    onnx.helper.set_model_props(graph, metadata)
    onnx.checker.check_model(graph, full_check=True)
    serialized: bytes = graph.SerializeToString(deterministic=True)
    return serialized


def _strip(model: onnx.ModelProto) -> None:
    """Take out what the exporter notes about the machine: stack traces with paths."""
    for part in _parts(model):
        for name in ("metadata_props", "doc_string"):
            if name in part.DESCRIPTOR.fields_by_name:
                part.ClearField(name)


def _parts(model: onnx.ModelProto) -> Iterable[Any]:
    yield model
    for function in model.functions:
        yield from (function, *_of_nodes(function.node), *function.value_info)
    yield from _of_graph(model.graph)


def _of_graph(graph: onnx.GraphProto) -> Iterable[Any]:
    yield from (graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *_of_nodes(graph.node))


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterable[Any]:
    """Nodes, and what is in the bodies of loops."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from _of_graph(attribute.g) if attribute.HasField("g") else ()


@contextmanager
def _quiet() -> Any:
    """The exporter prints progress and warns of its own deprecations; neither is news to a user."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
