"""Frame: one logged moment, and the checks that make it valid.

Shapes: F features, A actions, C context. Understood keys of a frame's meta (any other is free):
  episode          TEXT or integer: frames of one agent that share it are one episode
  episode_segment  integer: this frame begins that piece of its episode, with a hole before it (first frame)
  source, split    observed | dream; train | val | test (first frame)
  terminal         bool: the task ended with this frame
  truncated        bool: the recording stopped with this frame, the task goes on
  confidence       0..1, of a dreamed frame
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Doubles, Floats

MAX_ACTIONS = 4096  # larger integers are more likely identifiers, and their one-hot vectors would exhaust memory
MAX_NUMBERS = 1 << 20  # of a frame's features, or of its action
MAX_TEXT = 256  # characters of a name
MAX_DEPTH = 32  # of meta
TEXT = f"non-empty text of at most {MAX_TEXT} characters, none of them a control character"
_UNSHOWABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # control, line ends, lone surrogates
FLOAT32_MAX = float(str(np.finfo(np.float32).max))  # the shortest text of the largest, a hair above it
FLOAT64_MAX = float(np.finfo(np.float64).max)


def wrong(where: str, value: object, expected: str) -> ValueError:
    """An error in the form that all refusals of a value have."""
    return ValueError(f"{where}: found {_shown(value)}, expected {expected}")


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = json.dumps(value, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."


def key_text(key: str) -> str:
    """A key for messages: short, on one line."""
    return key if key.isidentifier() and len(key) <= 60 else _shown(key)


def is_text(value: object) -> bool:
    """Whether it is TEXT: a name that a terminal, a CSV file and a plot can show."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and not _UNSHOWABLE.search(value)


def is_number(value: object, least: float, most: float) -> bool:
    """Whether it is a number (no bool, no NaN) from least to most."""
    return type(value) in (int, float) and least <= cast(float, value) <= most


def is_finite(array: NDArray[Any]) -> bool:
    """np.isfinite(array).all(), in half the time where arrays are as small as a frame's."""
    return int(np.count_nonzero(np.isfinite(array))) == array.size


class SameData:
    """Equality that compares arrays by type, shape and value."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        names = [item.name for item in fields(self)]  # type: ignore[arg-type]
        return all(_same(getattr(self, name), getattr(other, name)) for name in names)

    __hash__ = None  # type: ignore[assignment]


def _same(left: object, right: object) -> bool:
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    return type(left) is type(right) and bool(left == right)


@dataclass(frozen=True, eq=False)
class Frame(SameData):
    """One logged moment: a state, and the action taken in it, which leads to the next frame's state."""

    agent_id: str
    timestamp: float  # seconds
    features: Doubles  # [F], NaN where a reading is missing
    action: int | Floats | None = None  # 0..MAX_ACTIONS-1 (discrete) or [A] (continuous)
    reward: float | None = None  # exactly a float32
    context: Floats | None = None  # [C], what is known ahead
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for array, scalar in ((self.features, np.float64), (self.action, np.float32), (self.context, np.float32)):
            if isinstance(array, np.ndarray):
                assert array.dtype == scalar, array.dtype
                assert array.ndim == 1, array.shape
                assert array.size, array
                assert is_finite(array) or scalar is np.float64, array

    @classmethod
    def parse(cls, value: object) -> Self:
        """A frame from decoded JSON. Raises ValueError that names the field, what was found and what was expected."""
        if not isinstance(value, dict):
            raise wrong("frame", value, "an object")
        for key in value:
            if key not in _PARSERS:
                raise ValueError(f"{key_text(key)}: unknown field, expected only {', '.join(_PARSERS)}")
        for key in ("agent_id", "timestamp", "features"):
            if key not in value:
                raise ValueError(f"{key}: missing, expected {_EXPECTED[key]}")
        return cls(**{key: _PARSERS[key](item) for key, item in value.items()})

    def to_json(self) -> dict[str, Any]:
        """The frame as JSON values in canonical order; parse gives back an equal frame."""
        fields: dict[str, Any] = {
            "agent_id": self.agent_id,
            "timestamp": self.timestamp,
            "features": [None if value != value else value for value in self.features.tolist()],
        }
        if self.action is not None:
            fields["action"] = shortest(self.action) if isinstance(self.action, np.ndarray) else self.action
        if self.reward is not None:
            fields["reward"] = shortest([np.float32(self.reward)])[0]
        if self.context is not None:
            fields["context"] = shortest(self.context)
        return fields | ({"meta": dict(self.meta)} if self.meta else {})


def shortest(values: Floats | Sequence[np.float32]) -> list[float]:
    """Floats with the fewest decimals that round to the same float32."""
    return [float(str(value)) for value in values]


_EXPECTED = {
    "agent_id": TEXT,
    "timestamp": "finite seconds",
    "features": "a non-empty list of numbers within float32's range, null where one is missing",
    "action": f"an integer from 0 to {MAX_ACTIONS - 1} or a non-empty list of finite float32 numbers, or no such key",
    "reward": "a finite float32 number, or no such key",
    "context": "a non-empty list of finite float32 numbers, or no such key",
    "meta": "an object, or no such key",
}
_META: dict[str, tuple[Callable[[Any], bool], str]] = {
    "episode": (lambda value: type(value) is int or is_text(value), f"an integer or {TEXT}"),
    "episode_segment": (lambda value: type(value) is int and 0 <= value < 2**31, "an integer >= 0, and below 2^31"),
    "source": (lambda value: value in ("observed", "dream"), "observed or dream"),
    "split": (lambda value: value in ("train", "val", "test"), "train, val or test"),
    "terminal": (lambda value: type(value) is bool, "true or false"),
    "truncated": (lambda value: type(value) is bool, "true or false"),
}
META_KEYS = frozenset({*_META, "confidence"})


def parse_agent(value: object) -> str:
    """Raises ValueError for anything but TEXT."""
    if not is_text(value):
        raise wrong("agent_id", value, _EXPECTED["agent_id"])
    return cast(str, value)


def _parse_timestamp(value: object) -> float:
    if not is_number(value, -FLOAT64_MAX, FLOAT64_MAX):
        raise wrong("timestamp", value, _EXPECTED["timestamp"])
    return float(cast(float, value))


def _parse_features(value: object) -> Doubles:
    if type(value) is not list:
        _check_vector("features", value)
    numbers = [math.nan if number is None else number for number in cast(list[Any], value)]
    _check_vector("features", [0.0 if number != number else number for number in numbers])
    return np.array(numbers, np.float64)


def _parse_vector(where: str, value: object) -> Floats:
    _check_vector(where, value)
    return np.array(value, np.float32)


def _check_vector(where: str, value: object) -> None:
    if type(value) is not list or not value:
        raise wrong(where, value, _EXPECTED[where])
    if len(value) > MAX_NUMBERS:
        raise wrong(where, value, f"at most {MAX_NUMBERS} numbers; make images and the like smaller first")
    for index, number in enumerate(value):
        if not is_number(number, -FLOAT32_MAX, FLOAT32_MAX):
            raise wrong(f"{where}[{index}]", number, "a finite float32 number")


def _parse_action(value: object) -> int | Floats:
    if type(value) is int and 0 <= value < MAX_ACTIONS:
        return value
    return _parse_vector("action", value)


def _parse_reward(value: object) -> float:
    if not is_number(value, -FLOAT32_MAX, FLOAT32_MAX):
        raise wrong("reward", value, _EXPECTED["reward"])
    return float(np.float32(cast(float, value)))


def parse_meta(value: object) -> dict[str, Any]:
    """Raises ValueError for a wrong value of an understood key, and for a held-out dream; other keys are free."""
    if type(value) is not dict:
        raise wrong("meta", value, _EXPECTED["meta"])
    if flaw := _flaw(value, MAX_DEPTH):
        raise ValueError(f"meta: {flaw}")
    for key, (accepts, expected) in _META.items():
        if key in value and not accepts(value[key]):
            raise wrong(f"meta.{key}", value[key], expected)
    if value.get("source") == "dream" and value.get("split", "train") != "train":
        raise wrong("meta.split", value["split"], "train: a dream is never held out")
    return value


def _flaw(value: object, levels: int) -> str:
    """What no meta may hold."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if inner is None:
        return "found NaN, expected finite numbers" if value != value else ""
    if levels < 1:
        return f"nested too deeply, expected at most {MAX_DEPTH} levels"
    return next((flaw for item in inner if (flaw := _flaw(item, levels - 1))), "")


_PARSERS: dict[str, Callable[[object], Any]] = {
    "agent_id": parse_agent,
    "timestamp": _parse_timestamp,
    "features": _parse_features,
    "action": _parse_action,
    "reward": _parse_reward,
    "context": lambda value: _parse_vector("context", value),
    "meta": parse_meta,
}
