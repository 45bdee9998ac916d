"""Frame lines that differ from their first one in numbers alone: these are read as one list, the rest is compared.

What stands between the numbers is taken from the first line. With digits deleted, what is left of each line must be
what is left of the first one, byte for byte; and names may be replaced only as often as there are lines. Dimension key:
N lines, C numbers of a line.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import msgspec
import numpy as np
import simdjson
from msgspec import UNSET, Raw, UnsetType
from numpy.typing import NDArray

NUMERIC = ("timestamp", "features", "action", "reward")
NEXT = b",\n"  # between two lines, where all numbers are
COLON = b",\t"  # within a line, where numbers of another name begin
DIGITS = b"0123456789.+- "
EXPONENT = b"eE"
CONTROL = 32  # what stands where another name or line begins has bytes below
MOST_DIGITS = 4  # of an action that is one of many
NAMES = bytes(range(ord("a"), ord("z") + 1)) + b'_"'
TO_NUMBERS = bytes.maketrans(b":[]", b"\t  ")
Ints = NDArray[np.int64]


class _Line(msgspec.Struct):
    timestamp: Raw
    features: Raw
    action: Raw | UnsetType = UNSET
    reward: Raw | UnsetType = UNSET


_line = msgspec.json.Decoder(_Line).decode


@dataclass(frozen=True)
class Span:
    """Where a line has numbers: one, or those of a list."""

    name: str
    begin: int  # bytes from the start of the line
    end: int
    width: int  # how many numbers


@dataclass(frozen=True)
class Template:
    spans: tuple[Span, ...]  # in the order of the line
    line: bytes  # the first one, with its line break

    @staticmethod
    def of(line: bytes) -> "Template | None":
        """None where a field cannot be told from a part of meta. The line must be a good frame line."""
        found = _line(line)
        spans = [
            _span(name, bytes(getattr(found, name)), line) for name in NUMERIC if getattr(found, name) is not UNSET
        ]
        known = sorted((span for span in spans if span is not None), key=lambda span: span.begin)
        return Template(tuple(known), line) if len(known) == len(spans) else None

    @cached_property
    def begin(self) -> bytes:
        """What every line begins with."""
        return self.line[: self.spans[0].begin]

    @cached_property
    def end(self) -> bytes:
        """What every line ends with, its line break too."""
        return self.line[self.spans[-1].end :]

    @cached_property
    def columns(self) -> dict[str, slice]:
        """Where each field stands among the numbers of a line."""
        ends = list(accumulate(span.width for span in self.spans))
        return {span.name: slice(end - span.width, end) for span, end in zip(self.spans, ends, strict=True)}

    @cached_property
    def _between(self) -> list[bytes]:
        """What stands between two spans."""
        return [self.line[one.end : other.begin] for one, other in pairwise(self.spans)]

    @cached_property
    def _names_only(self) -> bool:
        """Whether nothing but names and brackets stands between the spans: deleting these leaves COLON."""
        return all(text.translate(TO_NUMBERS, NAMES).replace(b" ", b"") == COLON for text in self._between)

    @cached_property
    def _rest(self) -> bytes:
        """What a line leaves when its digits are gone, with what separates it from the next one."""
        texts = [*(text.translate(None, DIGITS) for text in self._between), NEXT]
        return b"".join(b"," * (span.width - 1) + text for span, text in zip(self.spans, texts, strict=True))

    def fits(self, data: bytes, begin: int) -> bool:
        """Whether the line that begins there may be like the first one."""
        end = data.find(b"\n", begin) + 1
        return data.startswith(self.begin, begin) and data.endswith(self.end, begin, end)

    def reach(self, data: bytes, begin: int) -> int:
        """Where the lines that may be like it end, if all of these stand together; the line at `begin` is one."""
        latest, beyond = begin, len(data)
        if self.fits(data, data.rfind(b"\n", 0, beyond - 1) + 1):
            return beyond
        while beyond - latest > 1:
            middle = (latest + beyond) // 2
            start = data.find(b"\n", middle - 1, beyond) + 1
            if start and self.fits(data, start):
                latest = start
            else:
                beyond = middle
        return data.index(b"\n", latest) + 1

    def numbers(self, text: bytes, parser: simdjson.Parser) -> tuple[bytes, NDArray[np.float64]] | None:
        """The numbers [N, C] of lines without the first one's beginning and the last one's end, and their text.

        None where a line has another form. Raises ValueError where a number is none.
        """
        joined = text.replace(self.end + self.begin, NEXT)
        count = 1 + (len(text) - len(joined)) // (len(self.end + self.begin) - len(NEXT))
        rest, expected = joined.translate(None, DIGITS), (self._rest * count)[: -len(NEXT)]
        if rest == expected and self._names_only:
            bare = joined.translate(TO_NUMBERS, NAMES)
        elif rest.translate(None, EXPONENT) == expected.translate(None, EXPONENT):
            found = self._without_names(joined, count)
            if found is None:
                return None
            bare = found
        else:
            return None
        parsed = parser.parse(b"[" + bare + b"]")
        assert isinstance(parsed, simdjson.Array)
        return bare, np.frombuffer(parsed.as_buffer(of_type="d"), np.float64).reshape(count, -1)

    def _without_names(self, text: bytes, count: int) -> bytes | None:
        """With COLON for what stands between spans; None where that is not `count` times there."""
        for between in self._between:
            before = len(text)
            text = text.replace(between, COLON)
            if before - len(text) != count * (len(between) - len(COLON)):
                return None
        return text

    def whole(self, name: str, text: bytes) -> bool:
        """Whether each line's number of this name is written as an integer from 0 of a few digits."""
        symbols = np.frombuffer(text.replace(b" ", b""), np.uint8)
        marks = np.append(np.flatnonzero(symbols < CONTROL), len(symbols) + 1).reshape(-1, len(self.spans))
        place = [span.name for span in self.spans].index(name)
        before = marks[:, place - 1] if place else np.concatenate([[-1], marks[:-1, -1]])
        return _all_digits(symbols, before + 1, marks[:, place] - 1)


def _all_digits(symbols: NDArray[np.uint8], first: Ints, end: Ints) -> bool:
    """Whether each stretch from first to end is one to MOST_DIGITS digits."""
    if not ((end > first) & (end <= first + MOST_DIGITS)).all():
        return False
    places = np.minimum(first[:, None] + np.arange(MOST_DIGITS), end[:, None] - 1)
    found = symbols[places]
    return bool(((found >= ord("0")) & (found <= ord("9"))).all())


def _span(name: str, raw: bytes, line: bytes) -> Span | None:
    """None where the name stands more than once, or may be written in another way."""
    key = b'"' + name.encode() + b'"'
    if line.count(key) != 1 or b"\\" in line:
        return None
    after = line.index(key) + len(key)
    begin = line.index(raw, after)
    if line[after:begin].strip() != b":":
        return None
    inner = 1 if raw.startswith(b"[") else 0
    return Span(name, begin + inner, begin + len(raw) - inner, raw.count(b",") + 1)
