"""The project in another folder, small enough to run, under git and DVC."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import yaml

from factories import make_episodes, write_logs

ROOT = Path(__file__).resolve().parent.parent
TINY = {
    "dreams": {"episodes": 12, "length": 4, "max_disagreement": 1000.0},
    "dreams.teacher": {"members": 2, "horizon": 4, "steps": 4, "batch_size": 4, "z_dim": 8, "hidden_dim": 8}
    | {"transition_steps": 4},
    "train": {"encoder": "mlp", "history": 3, "horizon": 4, "z_dim": 8, "hidden_dim": 8, "batch_size": 4}
    | {"steps": 12, "rho": 0.5, "policy_steps": 2},
    "prepare": {"val_share": 0.2, "test_share": 0.2},
    "validate": {"horizon": 4, "latency_calls": 3},
}
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "WORLDMODEL_CHECKPOINTS"} | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
}


class Workplace:
    """A folder under git, with commands that run there."""

    environment: Mapping[str, str] = ENVIRONMENT

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def commit(self, message: str = "state") -> None:
        self.run("git", "add", "--all")
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
        self.run("git", *identity, "commit", "--quiet", "--allow-empty", "--message", message)

    def run(self, *command: str) -> str:
        done = self.attempt(*command)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def refused(self, *command: str) -> str:
        """What it says on the way to a non-zero exit."""
        done = self.attempt(*command)
        assert done.returncode != 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
        return done.stderr

    def attempt(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=500
        )

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


class Copy(Workplace):
    """A project with tiny logs and params."""

    @classmethod
    def made(cls, folder: Path) -> Self:
        """Committed, and never run."""
        for name in ("src", ".dvc", "data", "artifacts"):
            (folder / name).mkdir(parents=True)
        shutil.copytree(ROOT / "src", folder / "src", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
        (folder / "examples").mkdir()
        for name in (
            "examples/simulate_gymnasium.py",
            ".dvc/config",
            ".dvc/.gitignore",
            ".dvcignore",
            ".gitignore",
            "dvc.yaml",
            "versions.yaml",
            ".gitattributes",
            ".dvc/aws.ini",
        ):
            shutil.copy(ROOT / name, folder / name)
        (folder / "params.yaml").write_text(yaml.safe_dump(tiny_params()), encoding="utf-8")
        write_logs(folder / "data/worldmodel/offline", make_episodes(30, 20, agents=3))
        made = cls(folder)
        made.run("git", "init", "--quiet")
        made.commit()
        return made

    def again(self, folder: Path) -> "Copy":
        """Another one, as this is now, with all that it has in its cache."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Copy(folder)

    def repro(self, *arguments: str) -> tuple[set[str], set[str]]:
        """The stages that ran, and those that came from the run cache."""
        lines = self.run("dvc", "repro", *arguments).splitlines()
        ran = {line.split("'")[1] for line in lines if line.startswith("Running stage")}
        cached = {line.split("'")[1] for line in lines if "is cached - skipping run" in line}
        return ran, cached

    def set_train(self, **fields: object) -> None:
        changed = yaml.safe_load(self.read("params.yaml"))
        changed["train"].update(fields)
        self.write("params.yaml", yaml.safe_dump(changed))


def tiny_params() -> dict:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for path, changes in TINY.items():
        section = values
        for key in path.split("."):
            section = section[key]
        assert set(changes) <= set(section)
        section.update(changes)
    return values
