"""z and histories on the wire: little-endian float32 bytes, base64 of the same for JSON, protobuf messages."""

import base64
import binascii

import numpy as np

from worldmodel.core.typing import Floats
from worldmodel.worldmodel_pb2 import InputState, LatentZ


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


def to_input_state(agent_id: str, features: Floats, actions: Floats | None = None) -> InputState:
    """features [H, F] and actions [H-1, A], raw units -> InputState. Raises ValueError for more or fewer actions."""
    history, width = features.shape
    actions = np.empty((history - 1, 0), np.float32) if actions is None else actions
    if len(actions) != history - 1:
        raise ValueError(f"{history} frames and {len(actions)} actions between them, expected {history - 1} actions")
    return InputState(
        agent_id=agent_id,
        history=history,
        feature_count=width,
        action_count=actions.shape[1],
        features=to_bytes(features),
        actions=to_bytes(actions),
    )


def from_input_state(message: InputState) -> tuple[Floats, Floats | None]:
    """InputState -> features [H, F], actions [H-1, A] or None. Raises ValueError where sizes and bytes differ."""
    features = _array(message.features, "features", (message.history, message.feature_count))
    actions = _array(message.actions, "actions", (message.history - 1, message.action_count))
    return features, actions if message.action_count else None


def _array(data: bytes, name: str, shape: tuple[int, int]) -> Floats:
    if min(shape) < 0 or len(data) != 4 * shape[0] * shape[1]:
        raise ValueError(f"InputState.{name} holds {len(data)} bytes, expected float32 {list(shape)}")
    return np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(shape)
