"""Start, Trajectory: what a simulator of the user's gets and gives, and what makes a trajectory fit the logs.

Dimension key: T frames of the trajectory, H frames of history, P planned actions, N frames after the history that the
log has, F features, A actions, C context.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from worldmodel.core.typing import Floats, Reals
from worldmodel.episodes.schema import ActionSpace

Actions = NDArray[np.int64] | Floats


@dataclass(frozen=True, eq=False)
class Start:
    """Where a dream begins: consecutive logged frames of one train episode, raw units, read-only arrays."""

    agent_id: str
    episode: str  # its name
    frame: int  # of the episode, the first one of the history
    length: int  # frames wanted after the history
    features: Reals  # [H, F], NaN where a reading is missing
    actions: Actions | None  # [H-1, A] or integers [H-1]; actions[t] led from features[t] to features[t+1]
    rewards: Floats | None  # [H-1]
    planned_actions: Actions | None  # [P, A] or [P], logged from the last frame of the history on; 2 <= P <= length + 1
    context: Floats | None = None  # [H + N, C], known ahead: of the history, then of what follows; N <= length


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One dream in raw units: a history of H frames, logged or simulated, and what followed; H < T.

    Its context is the log's: frames beyond those whose context is known are left out.
    """

    features: ArrayLike  # [T, F], NaN only where the start has it; frames beyond H + length are left out
    actions: ArrayLike | None  # [T, A] or integers [T], as in the logs; actions[t] leads features[t] to features[t+1]
    rewards: ArrayLike | None = None  # [T], what each action earned; None where the logs hold none
    confidence: ArrayLike | None = None  # [T] 0..1, how far each frame is trusted; None is 1
    terminal: bool = False  # whether the task ended with the last frame


def arrays_of(trajectory: object, start: Start, action_space: ActionSpace) -> dict[str, Any]:
    """The fields of an Episode that a simulator's answer gives, cut to start.length frames after the history.

    Raises ValueError with what was found and what was expected.
    """
    if not isinstance(trajectory, Trajectory):
        raise ValueError(f"found {type(trajectory).__name__}, expected a worldmodel.trajectory.Trajectory")
    history, size = start.features.shape
    holes = start.features if np.isnan(start.features).any() else None
    features = _numbers("features", trajectory.features, ["T", size], holes, start.features.dtype)
    frames = len(features)
    if frames <= history:
        raise ValueError(f"features: found {frames} frames, expected more than the {history} of the history")
    if (trajectory.rewards is None) != (start.rewards is None):
        what = ("None", f"[{frames}] as in the logs") if trajectory.rewards is None else ("some", "None as in the logs")
        raise ValueError(f"rewards: found {what[0]}, expected {what[1]}")
    confidence = None if trajectory.confidence is None else _numbers("confidence", trajectory.confidence, [frames])
    if confidence is not None and not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError(f"confidence: found {confidence.min():g}..{confidence.max():g}, expected 0..1")
    whole = {
        "features": features,
        "context": start.context,
        "actions": _actions(trajectory.actions, frames, action_space),
        "rewards": None if trajectory.rewards is None else _numbers("rewards", trajectory.rewards, [frames]),
        "confidence": confidence,
    }
    if not isinstance(trajectory.terminal, bool | np.bool_):
        raise ValueError(f"terminal: found {type(trajectory.terminal).__name__}, expected True or False")
    end = min(history + start.length, frames, frames if start.context is None else len(start.context))
    return {name: None if array is None else array[:end] for name, array in whole.items()}


def _actions(values: object, frames: int, space: ActionSpace) -> Actions | None:
    if space.kind == "continuous":
        return _numbers("actions", values, [frames, space.size])
    if space.kind == "none":
        if values is not None:
            raise ValueError(f"actions: found {_shown(_array(values))}, expected None as in the logs")
        return None
    array = _array(values)
    expected = f"integers [{frames}] from 0 to {space.size - 1}"
    if array.shape != (frames,) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"actions: found {_shown(array)}, expected {expected}")
    if array.min() < 0 or array.max() >= space.size:
        raise ValueError(f"actions: found {array.min()}..{array.max()}, expected {expected}")
    return array.astype(np.int64)


def _numbers(
    what: str, values: object, shape: Sequence[int | str], missing: Reals | None = None, scalar: DTypeLike = np.float32
) -> NDArray[Any]:
    """The array as such scalars; a text in `shape` stands for any number, and NaN may stand where `missing` has it."""
    array = _array(values)
    fits = array.ndim == len(shape) and all(
        isinstance(n, str) or n == m for n, m in zip(shape, array.shape, strict=True)
    )
    if not fits or not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise ValueError(f"{what}: found {_shown(array)}, expected numbers [{', '.join(map(str, shape))}]")
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.astype(np.float32))
        numbers = array.astype(scalar)
    if missing is not None:
        finite[: len(missing)] |= np.isnan(numbers[: len(missing)]) & np.isnan(missing[: len(numbers)])
    whole = finite.reshape(len(numbers), -1).all(axis=1)
    if not whole.all():
        expected = "finite float32 numbers" + ("" if missing is None else ", or NaN where the start has it")
        raise ValueError(f"{what}: frame {whole.argmin()} holds NaN or infinity, expected {expected}")
    return numbers


def _array(values: object) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError:  # lists of different lengths
        return np.empty(0, object)


def _shown(array: NDArray[Any]) -> str:
    if array.dtype != object:
        return f"{array.dtype} {list(array.shape)}"
    return "lists of different lengths" if array.ndim else str(array[()])
