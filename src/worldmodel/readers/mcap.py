"""MCAP: fields of topics (JSON, ROS 2, Protobuf) by a field map, on one clock by their log times. See clock.py."""

import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from worldmodel.episodes.schema import Episode
from worldmodel.readers import clock
from worldmodel.readers.source import Source

KEYS = clock.KEYS
STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def recognizes(path: Path) -> bool:
    return path.suffix == ".mcap" and path.is_file()


def episodes(source: Source) -> Iterator[Episode]:
    from mcap.decoder import DecoderFactory
    from mcap.reader import make_reader
    from mcap_protobuf.decoder import DecoderFactory as Protobuf
    from mcap_ros2.decoder import DecoderFactory as Ros2

    path, fields = source.path, source.fields
    with path.open("rb") as stream:
        decoders = [Ros2(), Protobuf(), cast(DecoderFactory, _Json())]
        reader = make_reader(stream, validate_crcs=True, decoder_factories=decoders)
        summary = reader.get_summary()
        known = sorted({channel.topic for channel in summary.channels.values()}) if summary else []
        clock.require_map(path, fields, known)
        topics: dict[str, _Topic] = {}
        for name in clock.wanted(fields):
            topic, below = clock.topic_of(path, name, known)
            topics.setdefault(topic, _Topic()).fields[name] = below
        for _, channel, message, decoded in reader.iter_decoded_messages(topics=list(topics), log_time_order=False):
            topics[channel.topic].add(message.log_time, decoded)
    yield from clock.episode(source, dict(each for topic in topics.values() for each in topic.series()))


@dataclass
class _Topic:
    """The mapped numbers of its messages so far; NaN where one is null."""

    fields: dict[str, str] = field(default_factory=dict)  # name in the map -> field in a message
    times: "array[int]" = field(default_factory=lambda: array("q"))  # nanoseconds
    values: "array[float]" = field(default_factory=lambda: array("d"))
    _steps: list[list[Callable[[Any], Any]]] = field(default_factory=list)

    def add(self, time: int, message: Any) -> None:
        if not self._steps:
            self._steps = [_steps(below, isinstance(message, dict)) for below in self.fields.values()]
        try:
            for steps in self._steps:
                value = message
                for step in steps:
                    value = step(value)
                self.values.append(np.nan if value is None else value)
        except (AttributeError, LookupError, TypeError) as error:
            name = list(self.fields)[len(self.values) % len(self.fields)]
            raise ValueError(f"{name}, message at {time} ns: no such number ({error}); check the field map") from None
        self.times.append(time)

    def series(self) -> Iterator[tuple[str, clock.Series]]:
        times = np.array(self.times, np.int64)
        columns = np.array(self.values).reshape(len(times), len(self.fields)).T
        yield from (
            (name, clock.Series.in_order(times, column)) for name, column in zip(self.fields, columns, strict=True)
        )


def _steps(below: str, is_json: bool) -> list[Callable[[Any], Any]]:
    """From a message to a number in it."""
    member = itemgetter if is_json else attrgetter
    return [itemgetter(int(index)) if index else member(name) for name, index in STEP.findall(below)]


class _Json:
    """As mcap's DecoderFactory."""

    def decoder_for(self, message_encoding: str, schema: Any) -> Callable[[bytes], Any] | None:
        return msgspec.json.decode if message_encoding == "json" else None
