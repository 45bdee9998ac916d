"""MCAP: fields of topics (JSON, ROS 2, Protobuf) by a field map, on one clock by their log times. See clock.py."""

import json
import re
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import numpy as np

from worldmodel.readers import clock
from worldmodel.readers.field_map import FieldMap
from worldmodel.readers.source import Names, Recorded

KEYS = clock.KEYS
STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def recognizes(path: Path) -> bool:
    return path.suffix == ".mcap" and path.is_file()


def episodes(path: Path, fields: FieldMap, names: Names) -> Iterator[Recorded]:
    from mcap.decoder import DecoderFactory
    from mcap.reader import make_reader
    from mcap_protobuf.decoder import DecoderFactory as Protobuf
    from mcap_ros2.decoder import DecoderFactory as Ros2

    with path.open("rb") as stream:
        decoders = [Ros2(), Protobuf(), cast(DecoderFactory, _Json())]
        reader = make_reader(stream, validate_crcs=True, decoder_factories=decoders)
        summary = reader.get_summary()
        topics = sorted({channel.topic for channel in summary.channels.values()}) if summary else []
        clock.require_map(path, fields, topics)
        times: dict[str, array[int]] = {name: array("q") for name in clock.wanted(fields)}
        values: dict[str, array[float]] = {name: array("d") for name in times}
        parts: dict[str, list[tuple[str, list[Callable[[Any], Any]]]]] = {}
        for name in times:
            topic, below = clock.topic_of(path, name, topics)
            parts.setdefault(topic, []).append((name, _steps(below)))
        for _, channel, message, decoded in reader.iter_decoded_messages(topics=list(parts)):
            for name, steps in parts[channel.topic]:
                times[name].append(message.log_time)
                values[name].append(_value(decoded, steps, name, message.log_time))
    series = {name: clock.in_order(np.array(times[name], np.int64), np.array(values[name])) for name in times}
    yield from clock.episode(path, fields, names, series)


def _steps(field: str) -> list[Callable[[Any], Any]]:
    """From a message to a number in it."""
    return [itemgetter(int(index)) if index else partial(_member, name) for name, index in STEP.findall(field)]


def _member(name: str, value: Any) -> Any:
    return value[name] if isinstance(value, dict) else getattr(value, name)


def _value(message: Any, steps: list[Callable[[Any], Any]], name: str, time: int) -> float:
    """NaN where it is null."""
    try:
        for step in steps:
            message = step(message)
        return float("nan") if message is None else float(message)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{name}, message at {time} ns: no such number ({error}); check the field map") from None


class _Json:
    """As mcap's DecoderFactory."""

    def decoder_for(self, message_encoding: str, schema: Any) -> Callable[[bytes], Any] | None:
        return json.loads if message_encoding == "json" else None
