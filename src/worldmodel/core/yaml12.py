"""YAML as DVC reads it (ruamel.yaml, YAML 1.2), without what another reader would take for another value.

What is read here decides results; what DVC reads stands in dvc.lock: the two must never differ. So numbers are decimal,
and what YAML 1.1 has another word for (0100, 1:30, yes, dates), tags, anchors, merges and second documents are refused.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)
from ruamel.yaml.resolver import implicit_resolvers

SIZE = 200_000  # characters of a file, which take two seconds at most
DEPTH = 20  # levels
DIGITS = 100  # characters of a number
SHOWN = 60  # characters of what a message quotes

INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
FLOAT = re.compile(
    r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+][0-9]+)?|-?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
CONSTANTS = dict.fromkeys(("", "~", "null", "Null", "NULL")) | {
    text: value for value in (True, False) for text in (str(value), str(value).lower(), str(value).upper())
}
# What is no text to some reader: to ruamel.yaml under YAML 1.1 or 1.2, or by the core schema of YAML 1.2
NO_TEXT = [pattern for _, _, pattern, _ in implicit_resolvers] + [
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|0o[0-7]+$")
]
LINE_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")  # line breaks of YAML 1.1 alone, and the byte order mark
HINT = 'write a number in decimal digits (100, 0.5, 1e-05), yes and no as true and false, text in quotes ("0100")'


def read_yaml(path: Path) -> dict[str, Any]:
    """Raises ValueError that names the file, the key and the line."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run from the project's folder, or give its path")
    if path.stat().st_size > 4 * SIZE:  # bytes of a character, at most
        raise ValueError(f"{path}: holds {path.stat().st_size} bytes, expected at most {SIZE} characters")
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not YAML: {error}; save it as UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds {type(found).__name__}, expected sections such as `train:`")
    return found


def parse(text: str) -> Any:
    """Mappings, lists, text, numbers, true, false and null. Raises ValueError that names the key and the line."""
    if len(text) > SIZE:
        raise ValueError(f"holds {len(text)} characters, expected at most {SIZE}")
    if strange := LINE_BREAKS.search(text):
        line = text.count("\n", 0, strange.start()) + 1
        raise ValueError(f"found the character U+{ord(strange[0]):04X} on line {line}; remove it")
    return _Document().build(_events(text))


def _events(text: str) -> Iterator[Any]:
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except (YAMLError, ValueError) as error:  # ValueError: an escape beyond Unicode
        raise ValueError(f"not YAML: {cut(str(error), 4 * SHOWN)}") from None


def parse_dvc(text: str) -> Any:
    """dvc.yaml and dvc.lock as DVC has them, which may hold anchors. Raises ValueError."""
    try:
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"not YAML: {cut(str(error), 4 * SHOWN)}") from None


def cut(text: str, length: int = SHOWN) -> str:
    """On one line, and no longer than a message should be."""
    line = " ".join(text[: 10 * length].split())
    return line if len(line) <= length else f"{line[:length]}..."


@dataclass
class _Open:
    """A mapping or a list whose end is still to come."""

    name: str  # dotted
    values: dict[str, Any] | list[Any]
    key: str | None = None  # of a mapping, whose value comes next

    @property
    def place(self) -> str:
        """Dotted name of what comes next."""
        last = str(len(self.values)) if isinstance(self.values, list) else self.key
        return ".".join(part for part in (self.name, last) if part)

    def add(self, value: Any) -> None:
        if isinstance(self.values, list):
            self.values.append(value)
        elif self.key is not None:
            self.values[self.key], self.key = value, None


@dataclass
class _Document:
    opened: list[_Open] = field(default_factory=list)  # the outermost first
    holds: list[Any] = field(default_factory=list)  # one thing, once it is read

    def build(self, events: Iterator[Any]) -> Any:
        """Without recursion, however deeply anything is nested."""
        for event in events:
            if isinstance(event, DocumentStartEvent) and (self.holds or event.version or event.tags):
                self._refuse(event, "a second document or a directive", "write one document, without %YAML and %TAG")
            if isinstance(event, CollectionEndEvent):
                self.opened.pop()
            elif isinstance(event, NodeEvent):
                self._node(event)
        return self.holds[0] if self.holds else None

    def _node(self, event: Any) -> None:
        inner = self.opened[-1] if self.opened else _Open("", self.holds)
        if isinstance(event, AliasEvent) or event.anchor:
            self._refuse(event, f"the anchor {cut(event.anchor)}", "write out the value in each place")
        if event.tag:
            self._refuse(event, f"the tag {cut(event.tag)}", "write the value alone, text in quotes")
        if isinstance(inner.values, dict) and inner.key is None:
            inner.key = self._key(event, inner.values)
        elif isinstance(event, ScalarEvent):
            inner.add(self._value(event) if event.implicit[0] else event.value)
        elif len(self.opened) == DEPTH:
            self._refuse(event, f"more than {DEPTH} levels", "nest less deeply")
        else:
            opened = _Open(inner.place if self.opened else "", {} if isinstance(event, MappingStartEvent) else [])
            inner.add(opened.values)
            self.opened.append(opened)

    def _key(self, event: Any, known: Mapping[str, Any]) -> str:
        if not isinstance(event, ScalarEvent):
            self._refuse(event, "a mapping or a list for a key", "write text")
        key: str = event.value
        if event.implicit[0] and any(pattern.match(key) for pattern in NO_TEXT):
            self._refuse(
                event, f"the key {cut(key)}", "write text, in quotes where it looks like a number or a truth value"
            )
        if key in known:
            self._refuse(event, f"the key {cut(key)} twice", "write it once")
        return key

    def _value(self, event: Any) -> Any:
        """Of a scalar without quotes."""
        text: str = event.value
        if text in CONSTANTS:
            return CONSTANTS[text]
        for kind, pattern in ((int, INTEGER), (float, FLOAT)):
            if pattern.fullmatch(text):
                if len(text) > DIGITS:
                    self._refuse(event, f"a number of {len(text)} characters", f"write {DIGITS} at most")
                return kind(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if any(pattern.match(text) for pattern in NO_TEXT):
            self._refuse(event, f"{cut(text)}, which not all readers of YAML take for the same value", HINT)
        return text

    def _refuse(self, event: Any, found: str, hint: str) -> NoReturn:
        place = cut(self.opened[-1].place) if self.opened else ""
        start = f"{place}: found" if place else "found"
        raise ValueError(f"{start} {found} (line {event.start_mark.line + 1}); {hint}")


def leaves(values: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted name and value of whatever is no mapping."""
    if not isinstance(values, Mapping):
        return [(prefix[:-1], values)] if prefix else []
    return [leaf for key, value in values.items() for leaf in leaves(value, f"{prefix}{key}.")]
