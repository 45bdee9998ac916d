"""MCAP: fields of topics (JSON, ROS 2, Protobuf) by a field map, on one clock by their log times. See clock.py."""

import mmap
import re
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from itertools import takewhile
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from worldmodel.core.typing import Doubles
from worldmodel.episodes.schema import Episode
from worldmodel.readers import clock
from worldmodel.readers.cdr import CdrNumbers, definitions, short
from worldmodel.readers.source import Source

KEYS = clock.KEYS
STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
RECORD = struct.Struct("<BQ")  # kind and length
MESSAGE = struct.Struct("<BQH4xQ8x")  # the same, channel and log time; sequence and publish time are passed over
MAGIC, MESSAGES, CHUNK, DATA_END = 8, 5, 6, 15  # bytes before the first record; kinds of records
MANY = 1 << 14  # messages that are decoded at once, where no chunk ends before

Step = Callable[[Any], Any]  # from a part of a message to one below
Numbers = Callable[[Sequence[bytes]], Doubles]  # messages -> [N, fields], NaN where a number is null


def recognizes(path: Path) -> bool:
    return path.suffix == ".mcap" and path.is_file()


def episodes(source: Source) -> Iterator[Episode]:
    from mcap.reader import make_reader

    path, fields = source.path, source.fields
    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
        known = sorted({channel.topic for channel in summary.channels.values()}) if summary else []
        clock.require_map(path, fields, known)
        assert summary is not None
        wanted = dict[str, dict[str, str]]()  # topic -> name in the map -> field of a message
        for name in clock.wanted(fields):
            topic, below = clock.topic_of(path, name, known)
            wanted.setdefault(topic, {})[name] = below
        topics = {topic: _Topic(list(names)) for topic, names in wanted.items()}
        channels = {
            number: _Channel(
                topics[channel.topic],
                _numbers(
                    channel.message_encoding,
                    summary.schemas.get(channel.schema_id),
                    list(wanted[channel.topic].values()),
                ),
            )
            for number, channel in summary.channels.items()
            if channel.topic in topics
        }
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _read(data, channels)
    yield from clock.episode(source, dict(each for topic in topics.values() for each in topic.series()))


@dataclass
class _Topic:
    """The mapped numbers of its messages so far; NaN where one is null."""

    names: list[str]
    times: "array[int]" = field(default_factory=lambda: array("q"))  # nanoseconds
    values: list[Doubles] = field(default_factory=list)

    def series(self) -> Iterator[tuple[str, clock.Series]]:
        times, values = np.array(self.times, np.int64), np.concatenate([np.empty((0, len(self.names))), *self.values])
        for name, column in zip(self.names, values.T, strict=True):
            yield name, clock.Series.in_order(times, column)


@dataclass
class _Channel:
    """Messages of one encoding that are not decoded yet."""

    topic: _Topic
    numbers: Numbers
    times: list[int] = field(default_factory=list)
    waiting: list[bytes] = field(default_factory=list)

    def decode(self) -> None:
        try:
            self.topic.values.append(self.numbers(self.waiting))
        except Exception:  # each encoding has some of its own
            for time, message in zip(self.times, self.waiting, strict=True):
                self._try(time, message)
            raise
        self.topic.times.extend(self.times)
        self.times, self.waiting = [], []

    def _try(self, time: int, message: bytes) -> None:
        try:
            self.numbers([message])
        except Exception as error:
            names = ", ".join(self.topic.names)
            raise ValueError(f"{names}, message at {time} ns: no such number ({error}); check the field map") from None


def _read(data: Any, channels: dict[int, _Channel]) -> None:
    """All messages of the channels. Raises ValueError where the file is broken."""
    from mcap.data_stream import ReadDataStream
    from mcap.records import Chunk
    from mcap.stream_reader import get_chunk_data_stream

    at = MAGIC
    while True:
        kind, length = RECORD.unpack_from(data, at)
        begin, at = at + RECORD.size, at + RECORD.size + length
        if at > len(data):
            raise ValueError(f"breaks off at byte {begin}; copy it again from where it came from")
        if kind == CHUNK:
            chunk = Chunk.read(ReadDataStream(BytesIO(data[begin:at])))
            _collect(get_chunk_data_stream(chunk, validate_crc=True)[0].read(chunk.uncompressed_size), channels)
        elif kind == MESSAGES:
            _collect(data[begin - RECORD.size : at], channels)
        for channel in channels.values():
            if channel.waiting and (kind in (CHUNK, DATA_END) or len(channel.waiting) >= MANY):
                channel.decode()
        if kind == DATA_END:
            (expected,) = struct.unpack_from("<I", data, begin)
            if expected and zlib.crc32(memoryview(data)[: begin - RECORD.size]) != expected:
                raise ValueError(
                    "is not what was written (its checksum differs); copy it again from where it came from"
                )
            return


def _collect(data: bytes, channels: dict[int, _Channel]) -> None:
    add = {number: (channel.times.append, channel.waiting.append) for number, channel in channels.items()}
    at, end, unpack = 0, len(data), MESSAGE.unpack_from
    data += bytes(MESSAGE.size)  # behind a record that is shorter than a message's head
    while at < end:
        kind, length, number, time = unpack(data, at)
        begin, at = at + MESSAGE.size, at + RECORD.size + length
        if kind == MESSAGES and number in add:
            own = add[number]
            own[0](time)
            own[1](data[begin:at])


def _numbers(encoding: str, schema: Any, paths: Sequence[str]) -> Numbers:
    from mcap_protobuf.decoder import DecoderFactory as Protobuf

    if encoding == "json":
        return _json(paths)
    if encoding == "cdr" and schema is not None and schema.encoding == "ros2msg":
        return CdrNumbers(definitions(schema.name, schema.data.decode()), short(schema.name), paths)
    decode = Protobuf().decoder_for(encoding, schema)
    if decode is None:
        found = f"{encoding} by {schema.encoding if schema else 'no schema'}"
        raise ValueError(f"{', '.join(paths)}: {found}, expected JSON, ROS 2 (cdr by ros2msg) or Protobuf")
    parts = [STEP.findall(path) for path in paths]
    steps = [tuple(_item(int(index)) if index else _attribute(name) for name, index in each) for each in parts]
    return lambda messages: _columns(list(map(decode, messages)), steps)


_item, _attribute = cache(itemgetter), cache(attrgetter)  # equal steps are one object


def _json(paths: Sequence[str]) -> Numbers:
    """Decodes what the paths need and passes over the rest; what lies below a list is decoded whole."""
    tree, steps = dict[str, Any](), list[tuple[Step, ...]]()
    for path in paths:
        parts, node, taken = STEP.findall(path), tree, list[Step]()
        names = list(takewhile(bool, (name for name, _ in parts)))
        for name in names:
            node = node.setdefault(name, {})
            taken.append(_attribute(_own(name)))
        below = (_item(int(index) if index else name) for name, index in parts[len(names) :])
        steps.append((*taken, *below))
    decode = msgspec.json.Decoder(_struct(tree)).decode_lines
    return lambda messages: _columns(decode(b"\n".join(messages)), steps)


def _own(name: str) -> str:
    """Any text as an attribute."""
    return f"key_{name.encode().hex()}"


def _struct(tree: dict[str, Any]) -> Any:
    if not tree:
        return Any
    names = {_own(name): name for name in tree}
    parts = [(own, _struct(tree[name])) for own, name in names.items()]
    return msgspec.defstruct("Part", parts, rename=names, gc=False)


def _columns(messages: Sequence[Any], paths: Sequence[tuple[Step, ...]]) -> Doubles:
    """[N, fields]"""
    found = np.empty((len(messages), len(paths)))
    known = {tuple[Step, ...](): messages}  # parts of the messages, by the steps that lead there
    for column, path in enumerate(paths):
        for end in range(1, len(path) + 1):
            if path[:end] not in known:
                known[path[:end]] = list(map(path[end - 1], known[path[: end - 1]]))
        numbers = np.array(known[path])
        if numbers.dtype.kind == "O":
            numbers = np.array([np.nan if value is None else value for value in known[path]])
        if numbers.dtype.kind not in "biuf" or numbers.shape != (len(messages),):
            raise TypeError(f"found {str(known[path][0])[:60]}")
        found[:, column] = numbers
    return found
