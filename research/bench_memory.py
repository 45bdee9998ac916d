"""Peak memory and time of each stage for a log and for TIMES as much of it.

The log is made on the fly, the params are the project's with few steps.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import yaml

from research.made_log import ROOT, make_log
from worldmodel.core.errors import run
from worldmodel.core.yaml12 import read_yaml

COMMANDS = {
    "check-logs": "-m worldmodel check-logs logs",
    "dreams": "{src}/dreams.py --logs logs --out dreams",
    "prepare": "{src}/prepare.py --logs logs --dreams dreams --out prepared",
    "normalize": "{src}/normalize.py --prepared prepared --out normalized --normalizer normalizer.json",
    "train": "{src}/train.py --normalized normalized --normalizer normalizer.json --out train --plots plots --timing t",
    "export": "{src}/export.py --trained train --normalizer normalizer.json --out bundles",
    "validate": "{src}/validate.py --bundles bundles --normalized normalized --out m --plots plots --timing t",
}
# Starts a command and says what the system counted of it. The peak of a process begins with what its parent had: hence
# one in between that has little.
MEASURE = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
code = subprocess.call(sys.argv[2:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
per_mib = 2**20 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
cost = [time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / per_mib]
json.dump(cost, open(sys.argv[1], "w"))
sys.exit(code)
"""


class Cost(NamedTuple):
    """Of one stage with its children."""

    seconds: float
    processor: float  # seconds
    resident: float  # MiB, the largest process's peak


def cost_of(name: str, folder: Path) -> Cost:
    """One stage in a folder with logs/ and params.yaml. Raises ValueError with its complaint where it fails."""
    words = [word.format(src=ROOT / "src") for word in COMMANDS[name].split()]
    if name == "prepare" and not (folder / "dreams").exists():
        words = [word for word in words if word not in ("--dreams", "dreams")]
    cost = folder / f"{name}.json"
    environment = os.environ | {"DVC_ROOT": str(folder), "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-S", "-c", MEASURE, str(cost), sys.executable, *words],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(f"{name}: exit code {done.returncode}\n{done.stderr}")
    return Cost(*json.loads(cost.read_text(encoding="utf-8")))


def write_params(path: Path, dreaming: bool) -> None:
    """The project's, with less of what takes time and no memory; without dreams where nobody dreams."""
    values = read_yaml(ROOT / "params.yaml")
    values["dreams"]["episodes"] = 300
    values["dreams"]["teacher"]["steps"] = 20
    values["train"]["steps"] = 10
    values["validate"]["latency_calls"] = 20
    if not dreaming:
        values["train"].update(rho=0.0, rho_start=0.0)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")


def costs(folder: Path, megabytes: float, names: Sequence[str]) -> dict[str, Cost]:
    """Of the named stages, in the pipeline's order, in a folder made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "logs").mkdir(parents=True)
    make_log(folder / "logs/log.jsonl", megabytes)
    shutil.copy(ROOT / "versions.yaml", folder)
    write_params(folder / "params.yaml", "dreams" in names)
    return {name: cost_of(name, folder) for name in COMMANDS if name in names}


def line(name: str, one: Cost, many: Cost) -> str:
    cells = (f"{a:9.1f}{b:9.1f}{b / max(a, 0.01):7.2f}" for a, b in zip(one, many, strict=True))
    return f"{name:11}" + "".join(cells)


@click.command()
@click.argument("stages", nargs=-1, type=click.Choice(list(COMMANDS)))
@click.option("--megabytes", default=50.0, show_default=True, help="Of logs.")
@click.option("--times", default=10.0, show_default=True, help="How many times as much the second log holds.")
def command(megabytes: float, times: float, stages: tuple[str, ...]) -> None:
    """Measure time and peak memory of the named STAGES, else of all, with a log and with TIMES as much of it."""
    sizes = (megabytes, megabytes * times)
    with tempfile.TemporaryDirectory() as folder:
        one, many = (costs(Path(folder) / "made", size, stages or list(COMMANDS)) for size in sizes)
    print(f"{sizes[0]:g} and {sizes[1]:g} MB of logs, and how many times as much the second takes")
    print(f"{'':11}" + "".join(f"{title:>25}" for title in ("s", "s of processor", "MiB resident")))
    print("\n".join(line(name, one[name], many[name]) for name in one))


if __name__ == "__main__":
    run(command)
