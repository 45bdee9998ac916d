"""Bundles of a few operators each, whose answers tell what their graphs were given."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx.parser

# 3 frames of 2 features, 3 actions, 1 context; z is all that the encoder was given
WEIGHTS = "<float[3, 2] w = {1, 2, 3, 4, 5, 6}, int64[1] one = {1}, int64[1] last = {2}, int64 time = {1}>"
GRAPHS = {
    "encoder": """(float[batch, 3, 2] features, float[batch, 2, 3] actions, float[batch, 2, 1] context)
        => (float[batch, 14] z)
        { f = Flatten(features) a = Flatten(actions) c = Flatten(context) z = Concat<axis = 1>(f, a, c) }""",
    "predictor": f"""(float[batch, 14] z, float[batch, K, 3] actions, float[batch, K, 1] context)
        => (float[batch, K, 2] features, float[batch, K, 2] std, float[batch, K] disagreement, float[batch, K] reward,
            float[batch, K] termination) {WEIGHTS}
        {{ sum = ReduceSum(z, one) begin = Unsqueeze(sum, one) pushed = MatMul(actions, w) met = Add(pushed, context)
          gone = CumSum(met, time) features = Add(begin, gone) std = Exp(met)
          reward = ReduceSum<keepdims = 0>(actions, last) disagreement = Abs(reward)
          termination = Sigmoid(reward) }}""",
    "step": f"""(float[batch, 14] z, float[batch, 3] action, float[batch, 1] context)
        => (float[batch, 14] z_next, float[batch, 2] features, float[batch, 2] std, float[batch] disagreement,
            float[batch] reward, float[batch] termination) {WEIGHTS}
        {{ z_next = Add(z, z) sum = ReduceSum(z, one) pushed = MatMul(action, w) met = Add(pushed, context)
          features = Add(sum, met) std = Exp(met) reward = ReduceSum<keepdims = 0>(action, one)
          disagreement = Abs(reward) termination = Sigmoid(reward) }}""",
}
SAID = {
    "run_id": "0" * 12,
    "action_kind": "continuous",
    "format": "2",
    "horizon": "4",
    "interval_s": "0.05",
    "distribution": "student-t",
    "degrees_of_freedom": "3",
    "feature_names": '["x", "y"]',
    "feature_min": "[-1, -2.5]",
    "feature_max": "[1, 2]",
    "context_min": "[0]",
    "context_max": "[24]",
}


def graph(name: str, text: str = "", **said: str | None) -> onnx.ModelProto:
    """One of GRAPHS, or another `text`; `said` changes the metadata, None takes a part of it away."""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 20]> {name} {text or GRAPHS[name]}')
    onnx.helper.set_model_props(model, {key: each for key, each in (SAID | said).items() if each is not None})
    return model


def write_bundle(folder: Path, change: Any = None, texts: Mapping[str, str] = GRAPHS, **said: str | None) -> Path:
    """`change` gets the graphs by name, before they are written."""
    graphs = {name: graph(name, text, **said) for name, text in texts.items()}
    if change:
        change(graphs)
    folder.mkdir(exist_ok=True)
    for name, model in graphs.items():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    return folder
