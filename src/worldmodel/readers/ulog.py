"""PX4 ULog: fields of topics (topic.field, topic#1.field of a second instance) by a field map. See clock.py."""

from collections.abc import Iterator
from contextlib import redirect_stdout
from io import BufferedReader, StringIO
from pathlib import Path

import numpy as np

from worldmodel.episodes.schema import Episode
from worldmodel.readers import clock
from worldmodel.readers.source import Source

KEYS = clock.KEYS
HEADER = 3  # bytes of a message


def recognizes(path: Path) -> bool:
    return path.suffix == ".ulg" and path.is_file()


def episodes(source: Source) -> Iterator[Episode]:
    from pyulog import ULog

    path, fields = source.path, source.fields
    chosen = sorted({name.partition(".")[0].partition("#")[0] for name in clock.wanted(fields)}) or None
    with _Stream(path.open("rb", buffering=0)) as stream, redirect_stdout(StringIO()):  # it remarks on what it skips
        log = ULog(stream, chosen)
    if stream.cut:
        end = stream.whole
        raise ValueError(f"breaks off at byte {end}; copy it again, or keep what is whole: head -c {end} {path.name}")
    if log.file_corruption:
        raise ValueError("parts of it are damaged; copy it again from where it came from")
    topics = {f"{each.name}#{each.multi_id}" if each.multi_id else each.name: each.data for each in log.data_list}
    clock.require_map(path, fields, list(topics))
    series = {}
    for name in clock.wanted(fields):
        topic, field = clock.topic_of(path, name, list(topics))
        if field not in topics[topic]:
            raise ValueError(f"{path}: {topic} has no {field}; it has {', '.join(topics[topic])}")
        times = topics[topic]["timestamp"].astype(np.int64) * 1000
        series[name] = clock.Series.in_order(times, topics[topic][field].astype(np.float64))
    yield from clock.episode(source, series)


class _Stream(BufferedReader):
    """Notes whether the file ends within a message, of which pyulog says nothing."""

    whole = 0  # bytes up to the end of the last whole message
    cut = False

    def read(self, size: int | None = -1, /) -> bytes:
        if size == HEADER:
            self.whole = self.tell()
        data = super().read(size)
        self.cut = size is not None and len(data) < size and (size != HEADER or bool(data))
        return data
