"""The sizes of a world model: what its tensors' shapes and the parts of z follow from."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from worldmodel.core.checked import Whole

STATE_CLAMP = 1e6  # standardized units; a rollout that runs away stays there: squares and gradients remain finite
MEMORY = 2  # numbers at the end of z: frames since the history, and the disagreement added up along them, squared


def room(z_dim: int) -> int:
    """Numbers of z for state and velocity, at most: 3/4 of it, and one less than it has beside the memory."""
    return max(1, min(z_dim * 3 // 4, z_dim - MEMORY - 1))


@dataclass(frozen=True)
class Shape:
    """What fixes the size of every tensor."""

    features: Whole
    actions: Whole  # 0 without actions; those of the context, which come last, count among them
    rewards: bool
    history: Whole  # frames
    horizon: Whole  # frames
    z_dim: Whole
    hidden_dim: Whole
    encoder: Literal["gru", "mlp", "transformer"]
    context_spread: bool = False  # whether the encoder also says how sure it is of the context
    context: Whole = 0  # inputs known ahead
    masked: bool = False  # whether readings may be missing
    terminals: bool = False  # whether tasks end in the logs

    @property
    def state_dim(self) -> int:
        """S, the part of z for the last frame: the frame itself where it fits, else projections of it."""
        return min(self.features, room(self.z_dim))

    @property
    def velocity_dim(self) -> int:
        """V, the part of z for the state's last change: none where that is unknown or the context would lack room."""
        return self.state_dim if self.history > 1 and 2 * self.state_dim <= room(self.z_dim) else 0

    @property
    def context_dim(self) -> int:
        """C, what z has left for all else that the history tells."""
        return self.z_dim - self.state_dim - self.velocity_dim - MEMORY

    @property
    def encoder_dim(self) -> int:
        """Hidden units of the encoder; a wider one predicts no better (docs/notebook.md)."""
        return max(1, self.hidden_dim // 2)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
