"""A small project under git and DVC, with stages that take no time, for what is about commits and not about models."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Self

import yaml

from copies import Workplace

NOTHING: Mapping[str, str] = MappingProxyType({})
STAGE = """
import json, pathlib, sys
name, rho = sys.argv[1], float(pathlib.Path("params.yaml").read_text().split("rho: ")[1].split()[0])
if name == "train":
    pathlib.Path("artifacts/train").write_text(f"{rho}")
elif name == "export":
    bundle = pathlib.Path("artifacts/worldmodel") / f"{round(100 * rho):012x}"
    bundle.mkdir(parents=True)
    (bundle / "weights").write_text(f"{rho}")
else:
    pathlib.Path("artifacts/metrics.json").write_text(json.dumps({"mse": {"mean": rho, "h1": 0.5}, "skill": 1 - rho}))
    rows = [f"{frame},{name},{error * frame}" for name, error in (("model", rho), ("ridge", 1)) for frame in (1, 2)]
    pathlib.Path("artifacts/plots/horizon.csv").write_text("\\n".join(["frame,series,mse", *rows]) + "\\n")
"""
GATES = """
better: {lower: [mse], higher: [skill]}
gates: [{metric: mse.mean, tolerance: 0.5}, {metric: skill, min: 0.3}]
"""
PIPELINE = {
    "train": {"deps": ["src/stage.py"], "params": ["train.rho"], "outs": ["artifacts/train"]},
    "export": {"deps": ["artifacts/train"], "outs": ["artifacts/worldmodel"]},
    "validate": {
        "deps": ["artifacts/worldmodel"],
        "metrics": [{"artifacts/metrics.json": {"cache": False}}],
        "plots": [{"artifacts/plots/horizon.csv": {"cache": False}}],
    },
}


class Scratch(Workplace):
    """`git` and `dvc` in a folder of its own; `review` calls one of this project's commands there."""

    def __init__(self, top: Path, below: str = "", files: Mapping[str, str] = NOTHING) -> None:
        """A repository at `top` with the project in there, or in a folder below."""
        self.top, self.folder = top, top / below
        (self.folder / "artifacts/plots").mkdir(parents=True)
        self.write("src/stage.py", STAGE)
        self.write("gates.yaml", GATES)
        stages = {name: {"cmd": f"python src/stage.py {name}"} | entry for name, entry in PIPELINE.items()}
        self.write("dvc.yaml", yaml.safe_dump({"stages": stages}, sort_keys=False))
        self.set_rho(0.2)
        for name, text in files.items():
            self.write(name, text)
        self.run("git", "init", "--quiet", "--initial-branch", "main", str(top))
        self.run("dvc", "init", "--quiet", *(["--subdir"] if below else []))

    @classmethod
    def at(cls, folder: Path) -> Self:
        """What is there already."""
        found = cls.__new__(cls)
        found.top = found.folder = folder
        return found

    def cloned(self, top: Path, *options: str) -> Self:
        """What git has of it."""
        self.run("git", "clone", "--quiet", *options, str(self.top), str(top))
        return self.at(top / self.folder.relative_to(self.top))

    def set_rho(self, rho: float) -> None:
        self.write("params.yaml", f"train:\n  rho: {rho}\n  unread: {{a: x|y}}\n")

    def set_metrics(self, **values: object) -> None:
        self.write("artifacts/metrics.json", json.dumps(values))

    def review(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.attempt(sys.executable, "-m", "worldmodel", name, *arguments)


def two_commits(top: Path, below: str = "", files: Mapping[str, str] = NOTHING) -> Scratch:
    """rho 0.2 on main, rho 0.4 on a branch, which is checked out; main has gone on meanwhile."""
    made = Scratch(top, below, files)
    made.run("dvc", "repro", "--quiet")
    made.commit("rho 0.2")
    made.run("git", "checkout", "--quiet", "-b", "change")
    made.set_rho(0.4)
    made.run("dvc", "repro", "--quiet")
    made.commit("rho 0.4")
    made.run("git", "checkout", "--quiet", "main")
    made.write("NEWS", "what others did meanwhile\n")
    made.commit("news")
    made.run("git", "checkout", "--quiet", "change")
    return made
