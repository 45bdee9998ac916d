"""Peak memory and time of each stage for a log and for TIMES as much of it, each in a process of its own.

The log is made on the fly, the params are the project's with few steps. Two peaks, looked at again and again: of all
resident pages, as the kernel noted it of the largest process, and of anonymous ones, all processes of a stage together.
Pages of mapped files are resident as long as nobody else wants the room, and not anonymous. (The kernel's word at a
process's end, ru_maxrss, will not do: it begins with what the process that started it had.)
"""

import argparse
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from research.made_log import ROOT, make_log

PERIOD = 0.02  # seconds between two looks
MIB = 2**20
COMMANDS = {
    "check-logs": "scripts/check_logs.py logs",
    "dreams": "src/dreams.py --logs logs --out dreams",
    "prepare": "src/prepare.py --logs logs --dreams dreams --out prepared",
    "normalize": "src/normalize.py --prepared prepared --out normalized --normalizer normalizer.json",
    "train": "src/train.py --normalized normalized --normalizer normalizer.json --out train --plots plots --timing t",
    "export": "src/export.py --trained train --normalizer normalizer.json --out bundles",
    "validate": "src/validate.py --bundles bundles --normalized normalized --out m --plots plots --timing t",
}
FEW = {  # what takes time and no memory
    "dreams": {"episodes": 300},
    "dreams.teacher": {"steps": 20},
    "train": {"steps": 10},
    "validate": {"latency_calls": 20},
}


class Cost(NamedTuple):
    """Of one stage with its children."""

    seconds: float
    processor: float  # seconds
    resident: float  # MiB
    anonymous: float  # MiB


def run(name: str, folder: Path) -> Cost:
    """One stage in a folder with logs/ and params.yaml. Raises ValueError with its words where it fails."""
    script, *arguments = COMMANDS[name].split()
    if name == "prepare" and not (folder / "dreams").exists():
        arguments = arguments[:2] + arguments[4:]
    call = [sys.executable, str(ROOT / script), *arguments]
    said, begin, resident, anonymous = folder / "said", time.perf_counter(), 0, 0
    with said.open("wb") as stream:
        child = subprocess.Popen(
            call, cwd=folder, env=os.environ | {"DVC_ROOT": str(folder)}, stdout=stream, stderr=stream
        )
    while True:
        pid, status, used = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        looks = [_look(pid) for pid in _family(child.pid)]
        resident = max([resident, *(look["VmHWM"] for look in looks)])
        anonymous = max(anonymous, sum(look["RssAnon"] for look in looks))
        time.sleep(PERIOD)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise ValueError(f"{name}: exit code {child.returncode}\n{said.read_text(encoding='utf-8')}")
    seconds = time.perf_counter() - begin
    return Cost(seconds, used.ru_utime + used.ru_stime, resident / MIB, anonymous / MIB)


def _family(pid: int) -> list[int]:
    """A process, its children and theirs, as far as they still run."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return [pid, *(each for child in children for each in _family(int(child)))]
    return []


def _look(pid: int) -> dict[str, int]:
    """Bytes: the peak of resident pages so far, and anonymous ones now; 0 of what has ended or is its parent's copy.

    Between fork and exec a child has all pages of its parent, and its command line.
    """
    found = {"VmHWM": 0, "RssAnon": 0}
    with contextlib.suppress(OSError):
        parent = _status(pid)["PPid"]
        if Path(f"/proc/{pid}/cmdline").read_bytes() != Path(f"/proc/{parent}/cmdline").read_bytes():
            found |= {name: value * 1024 for name, value in _status(pid).items() if name in found}
    return found


def _status(pid: int) -> dict[str, int]:
    """What /proc says in numbers: PPid, and KiB; of a process that has ended but is not waited for, no KiB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    parts = (line.replace(":", " ").split() for line in lines)
    return {name: int(value[0]) for name, *value in parts if value and value[0].isdecimal()}


def write_params(path: Path, dreaming: bool) -> None:
    """The project's with few steps; without dreams where nobody dreams."""
    whole = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, few in FEW.items():
        functools.reduce(dict.__getitem__, name.split("."), whole).update(few)
    if not dreaming:
        whole["train"].update(rho=0.0, rho_start=0.0)
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")


def costs(folder: Path, megabytes: float, names: Sequence[str]) -> dict[str, Cost]:
    """Of the named stages, in the pipeline's order, in a folder made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "logs").mkdir(parents=True)
    make_log(folder / "logs" / "log.jsonl", megabytes)
    shutil.copy(ROOT / "versions.yaml", folder)
    write_params(folder / "params.yaml", "dreams" in names)
    return {name: run(name, folder) for name in COMMANDS if name in names}


def told(name: str, one: Cost, many: Cost) -> str:
    growth = [after / max(before, 0.01) for before, after in zip(one, many, strict=True)]
    cells = [f"{before:9.1f}{after:9.1f}{times:7.2f}" for before, after, times in zip(one, many, growth, strict=True)]
    return f"{name:11}" + "".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--times", type=float, default=10)
    parser.add_argument("--stages", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        sizes = (given.megabytes, given.megabytes * given.times)
        one, many = (costs(Path(name) / "made", size, given.stages) for size in sizes)
    print(f"{sizes[0]:g} and {sizes[1]:g} MB of logs, and how many times as much the second takes")
    print(f"{'':11}" + "".join(f"{title:>25}" for title in ("s", "s of processor", "MiB resident", "MiB anonymous")))
    print("\n".join(told(stage, one[stage], many[stage]) for stage in one))


if __name__ == "__main__":
    main()
