"""Raw log lines, good and bad, and short ways to say what was read from them."""

import json
from dataclasses import replace

import pytest

from worldmodel.episodes.frame import META_KEYS
from worldmodel.logs import line_reader
from worldmodel.logs.blocks import Block
from worldmodel.logs.line_reader import parse_block
from worldmodel.logs.reader import read_logs
from worldmodel.logs.rows import Row, parse_line

GAP = 60.0  # seconds


def frame(t, agent="a", **fields):
    return {"agent_id": agent, "timestamp": t, "features": [float(t), 0.5]} | fields


def named(t, episode, agent="a", **meta):
    return frame(t, agent, meta={"episode": episode, **meta})


def log(tmp_path, *lines, name="log.jsonl"):
    """A folder with one log of these objects (text stands as it is)."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (tmp_path / name).write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return tmp_path


def read(folder):
    logs = read_logs([folder], GAP)
    assert logs.rows == len(logs.rejects) + sum(episode.length for episode in logs.episodes), "a row was lost"
    return logs


def times(logs):
    return [(episode.agent_id, episode.name, episode.segment, episode.timestamps.tolist()) for episode in logs.episodes]


def reasons(logs):
    return [str(reject) for reject in logs.rejects]


def fast(data):
    """The rows of a block as the fast way reads them, and the numbers of the lines that it left to the exact one."""
    left = list[int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_reader, "parse_line", lambda number, text: left.append(number) or parse_line(number, text))
        found = parse_block(Block(1, data)).rows
    return rows_of(found), [number for number in left if data.split(b"\n")[number - 1].strip()]


def exact(data, first=1):
    """The same rows as the exact way reads them; `first` is the number of the first line."""
    return rows_of(row for number, line in enumerate(data.split(b"\n"), first) for row in parse_line(number, line))


def rows_of(found):
    """Rows by themselves, and of their meta what is understood."""
    rows = [row for each in found for row in ([each] if isinstance(each, Row) else map(each.row, range(len(each))))]
    return list(map(_understood, rows))


def _understood(row):
    dream = row.meta.get("source") == "dream"
    meta = {key: value for key, value in row.meta.items() if (key in META_KEYS or dream) and value is not False}
    meta |= {"episode": str(meta["episode"])} if "episode" in meta else {}
    return replace(row, meta=meta, frame=row.frame and replace(row.frame, meta=meta))
