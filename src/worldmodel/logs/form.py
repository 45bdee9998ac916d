"""The form of frame lines: all but their values, taken from a good line. Lines of one form are read together.

A line that has the same bytes between its values, and one JSON value in the place of each, is a frame with the same
fields in the same order. Dimension key: N lines, C numbers and S texts of a line.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldmodel.core.typing import Ints
from worldmodel.episodes.frame import Frame
from worldmodel.logs.columns import Signature, indexed
from worldmodel.logs.scanning import NUMBER, OBJECT, TEXT, WHOLE, scan

_value_at = json.JSONDecoder().raw_decode
_space = re.compile(r"[ \t\r\n]*")
_entry = re.compile(r"[^\[\], \t]+")
KINDS = {"agent_id": TEXT, "meta": OBJECT}  # of fields that hold no numbers


class Slot(NamedTuple):
    """Where a line has a value; of a list each entry is one."""

    field: str
    kind: int
    begin: int
    end: int


class Layout(NamedTuple):
    """What two forms share that read the same lines."""

    literals: bytes
    bounds: bytes
    kinds: bytes


class Scanned(NamedTuple):
    """What lines of one form hold."""

    numbers: NDArray[np.float64]  # [N, C]
    texts: dict[str, tuple[Ints, list[bytes]]]  # by field: [N] into the distinct ones
    end: int  # where the next line begins


@dataclass(frozen=True, eq=False)
class Form:
    signature: Signature
    columns: dict[str, slice]  # where a field's numbers stand among those of a line
    texts: tuple[str, ...]  # fields whose values are given as they are written
    literals: NDArray[np.uint8]  # what stands before each slot, and after the last one
    bounds: Ints  # of each of these
    kinds: Ints  # of the slots

    @cached_property
    def layout(self) -> Layout:
        return Layout(self.literals.tobytes(), self.bounds.tobytes(), self.kinds.tobytes())

    @staticmethod
    def of(line: bytes, frame: Frame) -> "Form":
        """The form of a line, with its line break, that holds this one frame."""
        slots = list(_slots(line.decode("latin-1"), frame))  # a character a byte; text is compared, not shown
        begins, ends = [0, *(slot.end for slot in slots)], [*(slot.begin for slot in slots), len(line)]
        literals = [line[begin:end] for begin, end in zip(begins, ends, strict=True)]
        fields = [slot.field for slot in slots if slot.kind in (NUMBER, WHOLE)]
        return Form(
            signature=Signature.of(frame),
            columns={name: slice(fields.index(name), fields.index(name) + fields.count(name)) for name in fields},
            texts=tuple(slot.field for slot in slots if slot.kind in (TEXT, OBJECT)),
            literals=np.frombuffer(b"".join(literals), np.uint8),
            bounds=np.cumsum([0, *map(len, literals)]),
            kinds=np.array([slot.kind for slot in slots]),
        )

    def scan(self, data: bytes, begin: int, most: int) -> Scanned:
        """The lines from `begin` to the first one of another form, at most so many; `data` ends with a line break."""
        texts = len(self.texts)
        numbers = np.empty((most, len(self.kinds) - texts))
        spans, same = np.empty((most, texts, 2), np.int64), np.empty((most, texts), np.bool_)
        symbols = np.frombuffer(data, np.uint8)
        count, end = scan(symbols, begin, self.literals, self.bounds, self.kinds, numbers, spans, same)
        found = {
            name: _distinct(data, spans[:count, index], same[:count, index]) for index, name in enumerate(self.texts)
        }
        return Scanned(numbers[:count], found, end)


def _distinct(data: bytes, spans: Ints, same: NDArray[np.bool_]) -> tuple[Ints, list[bytes]]:
    other = ~same
    changes, values = indexed([data[begin:end] for begin, end in spans[other].tolist()])
    return changes[np.cumsum(other) - 1], values


def _slots(line: str, frame: Frame) -> Iterator[Slot]:
    """The values of a frame's line in their order."""
    place, symbol = line.index("{"), "{"
    while symbol != "}":
        key, place = _value_at(line, _past_space(line, place + 1))
        begin = _past_space(line, _past_space(line, place) + 1)
        _, end = _value_at(line, begin)
        if key in KINDS:
            inner = KINDS[key] == TEXT
            yield Slot(key, KINDS[key], begin + inner, end - inner)
        else:
            kind = WHOLE if key == "action" and isinstance(frame.action, int) else NUMBER
            yield from (Slot(key, kind, *entry.span()) for entry in _entry.finditer(line, begin, end))
        place = _past_space(line, end)
        symbol = line[place]


def _past_space(line: str, place: int) -> int:
    found = _space.match(line, place)
    assert found is not None
    return found.end()
