"""Raw log lines, good and bad, and short ways to say what was read from them."""

import json
from itertools import chain

from worldmodel.logs.blocks import Block
from worldmodel.logs.line_reader import LineReader
from worldmodel.logs.reader import read_logs
from worldmodel.logs.rows import parse_line

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
    found = LineReader().read(Block(1, data))
    rows = [each if isinstance(each, list) else list(map(each.row, range(len(each)))) for each in found]
    left = [row.line for each in found if isinstance(each, list) for row in each]
    return list(chain.from_iterable(rows)), left


def exact(data, first=1):
    """The same rows as the exact way reads them; `first` is the number of the first line."""
    return [row for number, line in enumerate(data.split(b"\n"), first) for row in parse_line(number, line)]
