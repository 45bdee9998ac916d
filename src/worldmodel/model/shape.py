"""The sizes of a world model: what its tensors' shapes and the parts of z follow from."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from worldmodel.core.checked import Whole

STATE_CLAMP = 1e6  # standardized units; a rollout that runs away stays there: squares and gradients remain finite


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

    @property
    def state_dim(self) -> int:
        """S, the part of z for the last frame: the frame itself where it fits into 3/4 of z, else projections of it."""
        return min(self.features, max(1, self.z_dim * 3 // 4))

    @property
    def velocity_dim(self) -> int:
        """V, the part of z for the state's last change: none where that is unknown or the context would lack room."""
        return self.state_dim if self.history > 1 and 2 * self.state_dim <= self.z_dim * 3 // 4 else 0

    @property
    def context_dim(self) -> int:
        """C, what z has left for all else that the history tells."""
        return self.z_dim - self.state_dim - self.velocity_dim

    @property
    def encoder_dim(self) -> int:
        """Hidden units of the encoder; a wider one predicts no better (docs/notebook.md)."""
        return max(1, self.hidden_dim // 2)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
