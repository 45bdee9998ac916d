"""torch -> ONNX: raw units in and out, dynamic batch, the same bytes wherever it is made.

encoder    features [batch, H, F], actions [batch, H-1, A]  ->  z [batch, Z]
predictor  z [batch, Z], actions [batch, K, A]  ->  features [batch, K, F], std [batch, K, F], reward [batch, K]
Inputs and outputs that the logs do not have (actions; reward) are absent, and so are the encoder's actions when H = 1.
Both graphs carry the metadata of the bundle: run_id, action_kind.
"""

import logging
import warnings
from collections.abc import Iterable
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from worldmodel.arrays.affine import Affine
from worldmodel.arrays.scaler import Scaler
from worldmodel.model.world_model import WorldModel


class Scale(nn.Module):
    """An Affine as tensors."""

    center: Tensor
    scale: Tensor

    def __init__(self, affine: Affine) -> None:
        super().__init__()
        self.register_buffer("center", torch.from_numpy(np.array(affine.center)))
        self.register_buffer("scale", torch.from_numpy(np.array(affine.scale)))

    def transform(self, raw: Tensor) -> Tensor:
        return (raw - self.center) / self.scale

    def inverse(self, standardized: Tensor) -> Tensor:
        return standardized * self.scale + self.center


class RawEncoder(nn.Module):
    def __init__(self, model: WorldModel, scaler: Scaler) -> None:
        super().__init__()
        self.model, self.features, self.actions = model, Scale(scaler.features), Scale(scaler.actions)

    def forward(self, features: Tensor, actions: Tensor | None = None) -> Tensor:
        shape = self.model.shape
        if actions is None:
            past = features.new_zeros(features.shape[0], shape.history - 1, shape.actions)
        else:
            past = self.actions.transform(actions)
        return self.model.encode(self.features.transform(features), past)


class RawPredictor(nn.Module):
    def __init__(self, model: WorldModel, scaler: Scaler) -> None:
        super().__init__()
        self.model, self.features, self.actions = model, Scale(scaler.features), Scale(scaler.actions)
        self.rewards = None if scaler.rewards is None else Scale(scaler.rewards)

    def forward(self, z: Tensor, actions: Tensor | None = None) -> tuple[Tensor, ...]:
        shape = self.model.shape
        plan = z.new_zeros(z.shape[0], shape.horizon, 0) if actions is None else self.actions.transform(actions)
        prediction = self.model.predict(z, plan)
        features = self.features.inverse(prediction.features)
        std = prediction.log_std.exp() * self.features.scale
        if prediction.rewards is None or self.rewards is None:
            return features, std
        return features, std, self.rewards.inverse(prediction.rewards)


def encoder_graph(model: WorldModel, scaler: Scaler, metadata: dict[str, str], opset: int) -> bytes:
    shape = model.shape
    inputs = {"features": torch.zeros(2, shape.history, shape.features)}
    if shape.actions and shape.history > 1:
        inputs["actions"] = torch.zeros(2, shape.history - 1, shape.actions)
    return _graph(RawEncoder(model, scaler), inputs, ["z"], metadata, opset)


def predictor_graph(model: WorldModel, scaler: Scaler, metadata: dict[str, str], opset: int) -> bytes:
    shape = model.shape
    inputs = {"z": torch.zeros(2, shape.z_dim)}
    if shape.actions:
        inputs["actions"] = torch.zeros(2, shape.horizon, shape.actions)
    outputs = ["features", "std"] + (["reward"] if shape.rewards else [])
    return _graph(RawPredictor(model, scaler), inputs, outputs, metadata, opset)


def _graph(
    module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], metadata: dict[str, str], opset: int
) -> bytes:
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            opset_version=opset,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    _strip(graph)
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
    graph = model.graph
    yield from (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for function in model.functions:
        yield from (function, *function.node, *function.value_info)


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
