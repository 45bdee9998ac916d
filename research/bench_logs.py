"""How fast logs are read, beside json and bare parsers on the same lines, which are made on the fly."""

import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
import orjson

from research.made_log import ROOT, make_log
from worldmodel.core.errors import run
from worldmodel.core.jobs import VARIABLE
from worldmodel.core.params import PrepareStage, load
from worldmodel.logs.reader import read_logs
from worldmodel.stages.prepare import prepare

GAP = 60.0  # seconds
FILES = 4  # of the log


class Line(msgspec.Struct):
    """A frame of the sample, as msgspec reads it without any check of ours."""

    agent_id: str
    timestamp: float
    features: list[float]
    action: list[float]
    reward: float
    meta: dict[str, Any]


def parse(folder: Path, parser: Callable[[bytes], object], keep: bool = False) -> None:
    kept = []
    for path in folder.iterdir():
        with path.open("rb") as lines:
            for line in lines:
                frame = parser(line)
                if keep:
                    kept.append(frame)


def write_npz(folder: Path) -> None:
    """What it writes stays until the end: some file systems pass over lately freed inodes, one by one."""
    out = Path(tempfile.mkdtemp(dir=folder.parent))
    prepare(folder, None, out, load(ROOT / "params.yaml", PrepareStage).prepare)


def check_logs(folder: Path) -> None:
    """The whole command, its start included."""
    command = [sys.executable, "-c", "from worldmodel.cli import main; main()", "check-logs", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def contestants(folder: Path) -> dict[str, tuple[Callable[[], object], str]]:
    """Name -> what is called, and how many processes it may take; the first four are compared with."""
    bare = msgspec.json.Decoder(Line).decode
    every = str(os.cpu_count() or 1)
    return {
        "json": (lambda: parse(folder, json.loads), "1"),
        "json, kept": (lambda: parse(folder, json.loads, keep=True), "1"),
        "orjson": (lambda: parse(folder, orjson.loads), "1"),
        "msgspec": (lambda: parse(folder, bare), "1"),
        "read_logs, one process": (lambda: read_logs([folder], GAP), "1"),
        "read_logs, all": (lambda: read_logs([folder], GAP), every),
        "check-logs, one process": (lambda: check_logs(folder), "1"),
        "check-logs, all": (lambda: check_logs(folder), every),
        "prepare to NPZ, one process": (lambda: write_npz(folder), "1"),
        "prepare to NPZ, all": (lambda: write_npz(folder), every),
    }


def seconds(call: Callable[[], object], processes: str, clock: Callable[[], float]) -> float:
    os.environ[VARIABLE] = processes
    begin = clock()
    with contextlib.redirect_stdout(io.StringIO()):
        call()
    return clock() - begin


@click.command()
@click.option("--megabytes", default=100.0, show_default=True, help="Of logs.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Of all contestants.")
@click.option("--busy", is_flag=True, help="The machine has other work: count seconds of processor, of one process.")
def command(megabytes: float, rounds: int, busy: bool) -> None:
    """Time reading and preparing logs beside json, orjson and msgspec; ratios are taken within a round."""
    clock = time.process_time if busy else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder) / "logs"
        logs.mkdir()
        for number in range(FILES):
            make_log(logs / f"{number}.jsonl", megabytes / FILES)
        runners = {name: each for name, each in contestants(logs).items() if not (busy and name.endswith("all"))}
        times = [{name: seconds(*each, clock) for name, each in runners.items()} for _ in range(rounds)]
    others = list(runners)[:4]
    print(f"{megabytes:g} MB, medians of {rounds} rounds; ratio: how many times as fast")
    print(f"{'':28}{'MB/s':>8}" + "".join(f"{name:>12}" for name in others))
    for name in runners:
        rate = statistics.median(megabytes / each[name] for each in times)
        ratios = [statistics.median(each[other] / each[name] for each in times) for other in others]
        print(f"{name:28}{rate:8.1f}" + "".join(f"{ratio:12.2f}" for ratio in ratios))


if __name__ == "__main__":
    run(command)
