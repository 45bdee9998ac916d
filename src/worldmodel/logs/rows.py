"""Lines of JSON -> rows: exact and slow. This file decides what is valid and words each refusal."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from worldmodel.episodes.frame import TEXT, Frame, is_text, key_text, parse_meta, wrong

BOM = "\ufeff"
MANY_BAD = 100_000  # rows
HOPELESS = f"nothing is read from here on: of {MANY_BAD} rows and more, nine in ten are bad; is this a log?"
MAX_DIGITS = 4300  # of an integer, where Python itself stops


@dataclass(frozen=True)
class Row:
    """A frame, or the reason why it was refused with what is still known of its agent and episode."""

    line: int  # in its file, from 1
    reason: str = ""  # empty where the frame is good
    frame: Frame | None = None
    agent_id: str | None = None  # None where it is unknown
    meta: Mapping[str, Any] = field(default_factory=dict)
    position: int | None = None  # within an episode line, from 0; None for a frame line
    unless_last: str = ""  # the reason to refuse it where another frame of its episode follows
    time: float = math.nan  # seconds; NaN where it is unknown


def parse_line(number: int, line: bytes) -> list[Row]:
    """One row of a frame line, all rows of an episode line, none of a blank line."""
    if not line.strip():
        return []
    try:
        value = decoded(line)
    except ValueError as error:
        return [Row(number, str(error))]
    if isinstance(value, dict) and "episode" in value:
        return _episode_rows(number, value)
    return [_frame_row(number, value)]


def is_hopeless(bad: int, rows: int) -> bool:
    """Whether so much is bad that going on would only fill memory with reasons."""
    return bad > MANY_BAD and 10 * bad > 9 * rows


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{key_text(twice)}: stands twice in one object, expected once")
    return unique


def _constant(found: str) -> float:
    """NaN stands for a missing reading; elsewhere it is refused by its place."""
    if found != "NaN":
        raise ValueError(f"not JSON: found {found}, expected finite numbers")
    return math.nan


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"not readable: a number of {len(digits)} characters, expected one within float64")
    return number


def _short(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"not readable: an integer of {len(digits)} characters, expected at most {MAX_DIGITS}")
    return int(digits)


_decode = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite, parse_int=_short
).decode


def decoded(line: bytes) -> Any:
    try:
        text = line.decode("utf-8")
        if "\0" in text:
            raise ValueError(
                f"not text: a NUL byte at position {text.index(chr(0)) + 1}; the file was cut or overwritten"
            )
        if text.startswith(BOM):
            raise ValueError("not JSON: a byte order mark, expected only at the start of a file; remove it")
        return _decode(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1}") from None
    except json.JSONDecodeError as error:
        near = error.doc[max(0, error.pos - 10) : error.pos + 10].rstrip()
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}, near {near!r}") from None
    except RecursionError:
        raise ValueError("not readable: nested too deeply") from None


def _episode_rows(number: int, value: dict[str, Any]) -> list[Row]:
    agent, frames = value.get("agent_id"), value["episode"]
    known = agent if is_text(agent) else None
    unknown = [key for key in value if key not in ("agent_id", "episode")]
    if unknown:
        return [Row(number, f"{key_text(unknown[0])}: unknown field, expected only agent_id, episode", agent_id=known)]
    if known is None:
        return [Row(number, str(wrong("agent_id", agent, TEXT)))]
    if not isinstance(frames, list) or not frames:
        return [Row(number, str(wrong("episode", frames, "a non-empty list of frames")), agent_id=known)]
    rows, bad = list[Row](), 0
    for position, frame in enumerate(frames):
        rows.append(_inner_row(number, position, known, frame))
        bad += rows[-1].frame is None
        if is_hopeless(bad, position + 1):
            return [*rows, Row(number, HOPELESS, agent_id=known, position=position + 1)]
    return rows


def _inner_row(number: int, position: int, agent: str, value: Any) -> Row:
    """A frame of an episode line, which may omit the agent but not name another one."""
    whole = {"agent_id": agent, **value} if isinstance(value, dict) else value
    row = _frame_row(number, whole, position)
    if row.frame is not None and row.frame.agent_id != agent:
        reason = str(wrong("agent_id", row.frame.agent_id, f"{json.dumps(agent)} as the line says"))
        return Row(number, reason, None, agent, row.meta, position)
    return replace(row, agent_id=agent)


def _frame_row(number: int, value: Any, position: int | None = None) -> Row:
    try:
        frame = Frame.parse(value)
    except ValueError as error:
        fields = value if isinstance(value, dict) else {}
        agent = fields.get("agent_id")
        return Row(number, str(error), None, agent if is_text(agent) else None, _usable_meta(fields), position)
    return Row(number, "", frame, frame.agent_id, frame.meta, position, time=frame.timestamp)


def _usable_meta(fields: dict[str, Any]) -> dict[str, Any]:
    try:
        return parse_meta(fields.get("meta", {}))
    except ValueError:
        return {}
