"""How fast the exported graphs plan, beside nothing but the matrix products of a plan.

Time does not depend on weights and scales: these are random, and none. Dimension key as in world_model.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from worldmodel.arrays.affine import identity
from worldmodel.arrays.scaler import Scaler
from worldmodel.bundle import POLICY
from worldmodel.client import ENCODER, PREDICTOR, STEP, WorldModel
from worldmodel.core.typing import Floats
from worldmodel.env import WorldModelVectorEnv
from worldmodel.export.graph import encoder_graph, policy_graphs, predictor_graph, step_graph
from worldmodel.model import world_model as torch_model
from worldmodel.model.policy import Policy
from worldmodel.model.shape import MEMORY, Shape
from worldmodel.planner import Planner

PLANS, FRAMES = 512, (16, 3)  # plans at once, of so many frames
ENVIRONMENTS = 64  # at once
OPSET = 20


def contestants(shape: Shape, folder: Path, threads: int) -> dict[str, Callable[[], object]]:
    """Name -> a call: plans and their products by frames, encode and predict as `control` calls them, a
    planner's decision, and a step of environments."""
    shape = replace(shape, actions=max(1, shape.actions))
    client, found = _client(shape, folder, threads), dict[str, Callable[[], object]]()
    z, plans = _random(PLANS, shape.z_dim), _random(PLANS, max(FRAMES), shape.actions)
    z[:, -MEMORY:] = 0
    for frames in FRAMES:
        found[f"plans/{frames}"] = partial(client.predict, z, plans[:, :frames].copy())
        found[f"products/{frames}"] = _products(shape, frames, threads)
    history, past = _random(shape.history, shape.features), _random(shape.history - 1, shape.actions)
    found["call"] = lambda: client.predict(client.encode(history, past), plans[0])
    logs = [{"features": _random(64, shape.features), "actions": _random(64, shape.actions)}]
    nothing = None if shape.rewards else lambda features, actions: np.zeros(actions.shape[:-1])
    planner = Planner(client, low=-1, high=1, cost=nothing)
    found["decision"] = partial(planner.act, history[0])
    envs = WorldModelVectorEnv(client, logs, ENVIRONMENTS, reward=nothing)
    envs.reset(seed=0)
    found["environments"] = partial(envs.step, _random(ENVIRONMENTS, shape.actions))
    return found


def _client(shape: Shape, folder: Path, threads: int) -> WorldModel:
    nothing = Scaler("standard", identity(shape.features), identity(shape.actions), None, np.ones(0, np.float32), "")
    scaler = replace(nothing, rewards=identity(1)) if shape.rewards else nothing
    model = torch_model.WorldModel(shape).eval()
    model.damping.fill_(1.0)
    said = {"run_id": "0" * 12, "action_kind": "continuous", "format": "2", "discount": "0.98"}
    said |= {"horizon": f"{shape.horizon}"}
    made = {ENCODER: encoder_graph(model, scaler, said, OPSET), STEP: step_graph(model, scaler, said, OPSET)}
    made[PREDICTOR] = predictor_graph(model, scaler, said, OPSET, goes_on=shape.rewards)
    if shape.rewards:
        made |= zip(POLICY, policy_graphs(Policy(shape.z_dim, shape.actions), scaler, said, OPSET), strict=True)
    for name, content in made.items():
        (folder / name).write_bytes(content)
    return WorldModel.load(folder, threads)


def _products(shape: Shape, frames: int, threads: int) -> Callable[[], object]:
    """Those of each frame, then those of all frames at once, in the runtime of the graphs."""
    state, hidden, known = shape.state_dim, shape.hidden_dim, shape.z_dim - MEMORY + shape.actions
    velocity = (state + shape.velocity_dim + shape.actions, state)
    sizes = [(known, hidden), (hidden, hidden), (hidden, state + shape.context_dim), velocity]
    turns = [range(len(sizes))] * frames
    sizes += [(hidden, shape.features + shape.rewards), (state + shape.actions, state + shape.actions)]
    turns.append(range(len(sizes) - 2, len(sizes)))
    nodes = [
        helper.make_node("MatMul", [f"x{each}", f"w{each}"], [f"y{each}_{turn}"])
        for turn, some in enumerate(turns)
        for each in some
    ]
    rows = [PLANS * (frames if each in turns[-1] else 1) for each in range(len(sizes))]
    inputs = {f"x{each}": _random(rows[each], size[0]) for each, size in enumerate(sizes)}
    last = [f"y{each}_{frames - 1 + (each in turns[-1])}" for each in range(len(sizes))]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, each.shape) for name, each in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in last],
        [numpy_helper.from_array(_random(*size), f"w{each}") for each, size in enumerate(sizes)],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=helper.find_min_ir_version_for([opset]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # else each is done once
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda: session.run(None, inputs)


def _random(*sizes: int) -> Floats:
    return np.random.default_rng(0).standard_normal(sizes, np.float32)
