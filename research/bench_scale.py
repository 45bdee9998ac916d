"""Peak memory and time of each stage as logs grow: made on the fly, the params are the project's with few steps."""

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
from research.options import numbers
from worldmodel.core.errors import run
from worldmodel.core.options import PATH
from worldmodel.core.yaml12 import read_yaml

FILES = 8  # of the log
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
    values["train"].update(steps=10, policy_steps=10)
    values["validate"]["latency_calls"] = 20
    if not dreaming:
        values["train"].update(rho=0.0, rho_start=0.0)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")


def costs(folder: Path, megabytes: float, names: Sequence[str]) -> dict[str, Cost]:
    """Of the named stages, in the pipeline's order, in a folder made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "logs").mkdir(parents=True)
    for number in range(FILES):
        make_log(folder / f"logs/log-{number}.jsonl", megabytes / FILES)
    shutil.copy(ROOT / "versions.yaml", folder)
    write_params(folder / "params.yaml", "dreams" in names)
    return {name: cost_of(name, folder) for name in COMMANDS if name in names}


def line(name: str, size: float, cost: Cost, first: tuple[float, Cost]) -> str:
    """A row, sizes in MB; `linear` is the time against as many times the first one's as it is larger."""
    linear = first[1].seconds * size / first[0]
    return (
        f"{name:11}{size:9g}{cost.seconds:9.1f}{cost.seconds / max(linear, 0.01):9.2f}"
        f"{cost.processor:9.1f}{cost.resident:9.0f}"
    )


@click.command()
@click.argument("stages", nargs=-1, type=click.Choice(list(COMMANDS)))
@click.option("--megabytes", default=50.0, show_default=True, help="Of the smallest log.")
@click.option(
    "--times", callback=numbers(float), default="1,3,10", show_default=True, help="Sizes, as multiples of it."
)
@click.option("--folder", type=PATH, help="Where logs and results go for the while.  [default: a temporary one]")
def command(megabytes: float, times: list[float], folder: Path | None, stages: tuple[str, ...]) -> None:
    """Measure time and peak memory of the named STAGES, else of all, as logs grow.

    WORLDMODEL_JOBS and RAY_ADDRESS say where the work runs. The disk must hold twice the largest log.
    """
    print(f"{'':11}{'MB':>9}{'s':>9}{'linear':>9}{'s of CPU':>9}{'MiB':>9}   (MiB: peak of the largest process)")
    first = dict[str, tuple[float, Cost]]()
    with tempfile.TemporaryDirectory(dir=folder) as made:
        for each in times:
            size = megabytes * each
            for name, cost in costs(Path(made) / "made", size, stages or list(COMMANDS)).items():
                print(line(name, size, cost, first.setdefault(name, (size, cost))), flush=True)


if __name__ == "__main__":
    run(command)
