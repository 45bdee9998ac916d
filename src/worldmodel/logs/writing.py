"""Episodes -> log files."""

import gzip
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from worldmodel.core.atomic import replacing
from worldmodel.episodes.schema import Episode

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def write_jsonl(path: Path, episodes: Iterable[Episode]) -> None:
    """Episodes as frame lines that read_logs reads back as equal ones; gzip where the name ends in .gz."""
    with replacing(path) as temporary, temporary.open("wb") as raw, _packed(raw, path.suffix) as stream:
        for episode in episodes:
            stream.write("".join(_encode(frame.to_json()) + "\n" for frame in episode.to_frames()).encode("ascii"))


def _packed(raw: BinaryIO, suffix: str) -> AbstractContextManager[gzip.GzipFile | BinaryIO]:
    """The stream, or a gzip stream into it without name and time, so that the bytes are always the same."""
    return gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if suffix == ".gz" else nullcontext(raw)
