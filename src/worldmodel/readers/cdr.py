"""CDR, as ROS 2 writes messages: numbers of many messages at once.

Where a number is follows from the lengths of the texts and lists before it: one message is walked through for all that
have the same lengths.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from worldmodel.core.typing import Doubles

NUMBERS = {"bool": "u1", "byte": "u1", "char": "i1", "float32": "f4", "float64": "f8"}
NUMBERS |= {f"{sign}int{8 * size}": f"{sign or 'i'}{size}" for sign in ("", "u") for size in (1, 2, 4, 8)}
FIELD = re.compile(r"([\w/]+)(?:<=\d+)?(\[(?:<=\d+|(\d+))?\])?\s+(\w+)(?!\w|\s*=)")
HEADER = 4  # bytes, of which the second tells the order of bytes


class Field(NamedTuple):
    kind: str  # a number, string, or the name of a definition
    many: int | None  # of a list, -1 where each message says it; None of a single one
    name: str


Definitions = Mapping[str, Sequence[Field]]


def definitions(name: str, text: str) -> Definitions:
    """Of a schema: its own message, and those that it is made of, by package/Type."""
    time = [Field("uint32", None, "sec"), Field("uint32", None, "nanosec")]
    found = {"builtin_interfaces/Time": time, "builtin_interfaces/Duration": time}
    for part in re.split(r"^={3,}$", text, flags=re.MULTILINE):
        if message := re.search(r"^MSG:\s+(\S+)$", part, flags=re.MULTILINE):
            name = message[1]
        package, own = name.split("/")[0], short(name)
        matches = (FIELD.match(line.strip()) for line in part.splitlines() if not line.startswith("MSG:"))
        found[own] = [
            Field(_whole(kind, package), int(count or -1) if is_list else None, called)
            for kind, is_list, count, called in (match.groups() for match in matches if match)
        ]
    return found


def short(name: str) -> str:
    """package/Type of package/msg/Type."""
    return f"{name.split('/')[0]}/{name.split('/')[-1]}"


def _whole(kind: str, package: str) -> str:
    if kind in NUMBERS or kind in ("string", "wstring"):
        return kind
    return short(kind) if "/" in kind else f"{package}/{kind}"


@dataclass
class _Walk:
    """Through one message."""

    known: Definitions
    data: bytes
    order: str
    at: int = HEADER
    spots: dict[str, tuple[int, str, int]] = field(default_factory=dict)  # path -> place, type and number of numbers
    lengths: list[int] = field(default_factory=list)  # places of what decides where the rest is

    def message(self, kind: str, path: str) -> None:
        self.at += not self.known[kind]  # an empty one takes a byte
        for each in self.known[kind]:
            inner = f"{path}.{each.name}" if path else each.name
            count = self._length() if each.many == -1 else each.many
            if each.kind in NUMBERS:
                self._numbers(NUMBERS[each.kind], inner, count)
            else:
                for place in [inner] if count is None else (f"{inner}[{index}]" for index in range(count)):
                    self._other(each.kind, place)

    def _other(self, kind: str, path: str) -> None:
        if kind == "string":
            length = self._length()
            self.at += length
        elif kind in self.known:
            self.message(kind, path)
        else:
            raise LookupError(f"{path} is {kind}, of which nothing is known")

    def _numbers(self, kind: str, path: str, count: int | None) -> None:
        if count != 0:
            self._align(int(kind[1]))
        self.spots[path] = self.at, self.order + kind, -1 if count is None else count
        self.at += int(kind[1]) * (1 if count is None else count)

    def _length(self) -> int:
        self._align(4)
        self.lengths.append(self.at)
        self.at += 4
        return int(np.frombuffer(self.data, f"{self.order}u4", 1, self.at - 4)[0])

    def _align(self, size: int) -> None:
        self.at += (HEADER - self.at) % size

    def spot(self, path: str) -> tuple[int, str]:
        """Place and type of a number; raises LookupError."""
        name, _, index = path.removesuffix("]").rpartition("[") if path.endswith("]") else (path, "", "-1")
        at, kind, count = self.spots[name]
        if not (-1 <= int(index) < max(count, 0)) or (int(index) == -1) != (count == -1):
            raise LookupError(f"{name} holds {max(count, 1)} numbers")
        return at + max(int(index), 0) * int(kind[2]), kind


@dataclass
class CdrNumbers:
    """Numbers of messages of one type, by paths such as pose.position.x and ranges[3]."""

    known: Definitions
    kind: str
    paths: Sequence[str]

    def __call__(self, messages: Sequence[bytes]) -> Doubles:
        """[N, paths]. Raises LookupError or ValueError where a message has no such number."""
        found = np.empty((len(messages), len(self.paths)))
        sizes = np.array([len(each) for each in messages])
        for size in np.unique(sizes).tolist():
            left = np.flatnonzero(sizes == size)
            rows = np.frombuffer(b"".join([messages[index] for index in left.tolist()]), np.uint8).reshape(
                len(left), size
            )
            while len(left):
                walk = _Walk(self.known, rows[0].tobytes(), "<" if rows[0, 1] & 1 else ">")
                walk.message(self.kind, "")
                if walk.at > size:
                    raise ValueError(f"ends at byte {size}, expected {walk.at}")
                deciding = [1, *(place + byte for place in walk.lengths for byte in range(4))]
                alike = (rows[:, deciding] == rows[0, deciding]).all(axis=1)
                for column, path in enumerate(self.paths):
                    at, kind = walk.spot(path)
                    numbers = np.ascontiguousarray(rows[alike, at : at + int(kind[2])]).view(kind)
                    found[left[alike], column] = numbers[:, 0]
                left, rows = left[~alike], rows[~alike]
        return found
