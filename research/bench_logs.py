"""How fast logs are read, beside json and bare parsers on the same lines, which are made on the fly."""

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import msgspec  # noqa: E402
import orjson  # noqa: E402

from research.made_log import make_log
from worldmodel.core.params import PrepareStage, load
from worldmodel.logs import chunks
from worldmodel.logs.reader import read_logs
from worldmodel.stages.prepare import prepare

GAP = 60.0  # seconds
ALONE = 1 << 60  # bytes from which on several processes would read


class Line(msgspec.Struct):
    """A frame of the sample, as msgspec reads it without any check of ours."""

    agent_id: str
    timestamp: float
    features: list[float]
    action: list[float]
    reward: float
    meta: dict[str, str]


def parse_lines(path: Path, parser: Callable[[bytes], object]) -> None:
    with path.open("rb") as stream:
        for line in stream:
            parser(line)


def keep_lines(path: Path) -> list[object]:
    with path.open("rb") as stream:
        return [json.loads(line) for line in stream]


def read(path: Path, parallel: int) -> None:
    chunks.PARALLEL_BYTES = parallel
    read_logs([path], GAP)


def write_npz(path: Path, parallel: int) -> None:
    """What it writes stays until the end: some file systems pass over lately freed inodes, one by one."""
    chunks.PARALLEL_BYTES = parallel
    out = Path(tempfile.mkdtemp(dir=path.parent))
    prepare(path, None, out, load(ROOT / "params.yaml", PrepareStage).prepare)


def contestants(path: Path) -> dict[str, Callable[[], object]]:
    bare = msgspec.json.Decoder(Line).decode
    return {
        "json.loads, each line": lambda: parse_lines(path, json.loads),
        "json.loads, all lines kept": lambda: keep_lines(path),
        "orjson.loads, each line": lambda: parse_lines(path, orjson.loads),
        "msgspec, each line": lambda: parse_lines(path, bare),
        "read_logs, one process": lambda: read(path, ALONE),
        "read_logs, all processors": lambda: read(path, 0),
        "prepare to NPZ, one process": lambda: write_npz(path, ALONE),
        "prepare to NPZ, all processors": lambda: write_npz(path, 0),
    }


def seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    begin = clock()
    with contextlib.redirect_stdout(io.StringIO()):
        call()
    return clock() - begin


def race(path: Path, rounds: int, busy: bool) -> None:
    """Everybody in turn, again and again; ratios are taken within a round, since the machine may have other work."""
    clock = time.process_time if busy else time.perf_counter
    runners = {name: call for name, call in contestants(path).items() if not (busy and "all processors" in name)}
    times = [{name: seconds(call, clock) for name, call in runners.items()} for _ in range(rounds)]
    print(f"{path.stat().st_size / 1e6:.0f} MB, medians of {rounds} rounds; ratio: how many times as fast")
    print(f"{'':32}{'MB/s':>8}{'json':>8}{'kept':>8}{'orjson':>8}{'msgspec':>8}")
    for name in runners:
        rate = statistics.median(path.stat().st_size / 1e6 / each[name] for each in times)
        ratios = [statistics.median(each[other] / each[name] for each in times) for other in list(runners)[:4]]
        print(f"{name:32}{rate:8.1f}" + "".join(f"{ratio:8.2f}" for ratio in ratios))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", action="store_true", help="the machine has other work: count seconds of processor")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_log(Path(folder) / "log.jsonl", given.megabytes)
        race(Path(folder) / "log.jsonl", given.rounds, given.busy)


if __name__ == "__main__":
    main()
