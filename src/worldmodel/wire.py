"""z and histories on the wire: little-endian float32 bytes, base64 of the same for JSON, protobuf messages."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np

from worldmodel.core.typing import Floats, Reals
from worldmodel.worldmodel_pb2 import InputState, LatentZ, Plan, Prediction


def to_bytes(z: Floats) -> bytes:
    """[...] float32 -> row-major little-endian float32."""
    return np.ascontiguousarray(z, dtype="<f4").tobytes()


def from_bytes(data: bytes) -> Floats:
    """Little-endian float32 -> [Z]. Raises ValueError where the length is no multiple of 4."""
    if not data or len(data) % 4:
        raise ValueError(f"a latent of {len(data)} bytes, expected 4 bytes for each of its float32 values")
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


def to_base64(z: Floats) -> str:
    return base64.b64encode(to_bytes(z)).decode("ascii")


def from_base64(text: str) -> Floats:
    """Raises ValueError for text that is no base64 of float32 values."""
    try:
        return from_bytes(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise ValueError(f"a latent that is no base64: {error}") from None


def to_message(z: Floats, run_id: str = "") -> LatentZ:
    """One z [Z] and the run_id of the model that encoded it -> LatentZ."""
    return LatentZ(z=to_bytes(z), run_id=run_id)


def from_message(message: LatentZ) -> Floats:
    return from_bytes(message.z)


def to_input_state(
    agent_id: str, features: Reals, actions: Floats | None = None, context: Floats | None = None, wide: bool = False
) -> InputState:
    """features [T, F], actions [T-1, A] and context [T-1, C], raw units -> InputState; `wide`: features as float64.

    A single frame may have its own context, [1, C]. Raises ValueError for more or fewer actions or context than lie
    between the frames.
    """
    history, width = features.shape
    none = np.empty((history - 1, 0), np.float32)
    between = {"actions": none if actions is None else actions, "context": none if context is None else context}
    for name, array in between.items():
        if len(array) != history - 1 and not (name == "context" and history == len(array) == 1):
            raise ValueError(f"{history} frames and {len(array)} {name} between them, expected {history - 1} {name}")
    return InputState(
        agent_id=agent_id,
        history=history,
        feature_count=width,
        action_count=between["actions"].shape[1],
        context_count=between["context"].shape[1],
        features=np.ascontiguousarray(features, "<f8").tobytes() if wide else to_bytes(features),
        actions=to_bytes(between["actions"]),
        context=to_bytes(between["context"]),
        wide=wide,
    )


def from_input_state(message: InputState) -> tuple[Reals, Floats | None]:
    """InputState -> features [T, F], actions [T-1, A] or None. Raises ValueError where sizes and bytes differ."""
    size = (message.history, message.feature_count)
    features: Reals = _array(message.features, "InputState.features", size, "<f8" if message.wide else "<f4")
    actions = _array(message.actions, "InputState.actions", (message.history - 1, message.action_count))
    return features, actions if message.action_count else None


def context_of(message: InputState) -> Floats | None:
    """InputState -> context [T-1, C], or [1, C] of a single frame, or None. Raises ValueError as above."""
    frames = 1 if message.history == 1 and message.context else message.history - 1
    context: Floats = _array(message.context, "InputState.context", (frames, message.context_count))
    return context if message.context_count else None


def to_plan(z: Floats, actions: Floats | None = None, context: Floats | None = None, run_id: str = "") -> Plan:
    """One z [Z], actions [K, A] and context [K, C], raw units -> Plan."""
    plan = Plan(z=to_message(z, run_id))
    if actions is not None:
        plan.length, plan.action_count, plan.actions = *actions.shape, to_bytes(actions)
    if context is not None:
        plan.length, plan.context_count, plan.context = *context.shape, to_bytes(context)
    return plan


def from_plan(message: Plan) -> tuple[Floats, Floats | None, Floats | None]:
    """Plan -> z [Z], actions [K, A] or None, context [K, C] or None. Raises ValueError where sizes and bytes differ."""
    actions = _array(message.actions, "Plan.actions", (message.length, message.action_count))
    context = _array(message.context, "Plan.context", (message.length, message.context_count))
    known = (actions if message.action_count else None, context if message.context_count else None)
    return from_message(message.z), *known


def to_prediction(future: Mapping[str, Reals], run_id: str = "") -> Prediction:
    """What a bundle tells of one plan, by the names of a Future: [K, F] or [K] each -> Prediction."""
    length, width = future["features"].shape
    wide = future["features"].dtype == np.float64
    parts = {name: array.astype("<f8" if wide and name == "features" else "<f4") for name, array in future.items()}
    data = {name: array.tobytes() for name, array in parts.items()}
    return Prediction(run_id=run_id, length=length, feature_count=width, wide=wide, **data)


def from_prediction(message: Prediction) -> dict[str, Reals]:
    """Prediction -> features and std [K, F]; disagreement, reward and termination [K] as far as it has them.

    Raises ValueError where sizes and bytes differ.
    """
    size = (message.length, message.feature_count)
    features = _array(message.features, "Prediction.features", size, "<f8" if message.wide else "<f4")
    found: dict[str, Reals] = {"features": features, "std": _array(message.std, "Prediction.std", size)}
    for name in ("disagreement", "reward", "termination"):
        if data := getattr(message, name):
            found[name] = _array(data, f"Prediction.{name}", (message.length, 1))[:, 0]
    return found


def _array(data: bytes, name: str, shape: tuple[int, int], scalar: str = "<f4") -> Any:
    kind = np.dtype(scalar)
    if min(shape) < 0 or len(data) != kind.itemsize * shape[0] * shape[1]:
        raise ValueError(f"{name} holds {len(data)} bytes, expected {kind.name} {list(shape)}")
    return np.frombuffer(data, dtype=kind).astype(kind.newbyteorder("=")).reshape(shape)
