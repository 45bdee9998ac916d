"""What a case trains: ours by `worldmodel train`, peers for the seconds that ours took. A folder each, kept.

Seconds are the processor's, of this process, on one thread.
"""

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import closing, redirect_stdout
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from examples.collect_gymnasium import make, record, write
from research.control.cases import Case
from research.control.dynamics import Judge, PeerDynamics, fit_judge, new_judge
from research.peers.peer import Peer, new_peer
from research.peers.training import PEERS, Logs, read, train_peer
from worldmodel.arrays.windows import Packed
from worldmodel.cli import train
from worldmodel.client import WorldModel, find_bundle
from worldmodel.core import params
from worldmodel.core.atomic import replacing
from worldmodel.core.fingerprint import fingerprint, import_closure, sha256
from worldmodel.core.versions import installed
from worldmodel.sweeps.grid import with_overrides

ROOT = Path(__file__).resolve().parents[2]
COLLECT = "examples/collect_gymnasium.py"
STAGES = ("dreams", "prepare", "normalize", "train", "export")  # that decide what a bundle is
TRAIN = tuple(f"src/worldmodel/stages/{stage}.py" for stage in STAGES)
LIBRARIES = ("numpy", "torch", "gymnasium", "mujoco")
KEPT = ("worldmodel", "metrics.json")  # of a run of ours
WEIGHTS = "weights.safetensors"
DONE = "training.json"  # the last file of what is trained


@dataclass(frozen=True)
class Study:
    """What holds for every case."""

    root: Path  # of all that is kept
    values: Mapping[str, Any]  # params.yaml
    starts: int  # of each case
    seconds: float | None = None  # of the processor, for each other row; None: what ours took


@dataclass(frozen=True)
class Trainer:
    """Trains for one case, once."""

    study: Study
    case: Case

    @cached_property
    def log(self) -> Path:
        asked = self.case.recording
        path = (
            self.study.root / asked.env.replace("/", "-") / "logs" / f"{logs_digest(self.case)[:12]}" / "log.jsonl.gz"
        )
        if not path.exists():
            with closing(make(asked)) as env:
                write(record(env, asked), path)
        return path

    @cached_property
    def settings(self) -> params.Params:
        return params.check(self.values({}), Path("params.yaml"))

    @cached_property
    def logs(self) -> Logs:
        return read(self.log, self.settings.prepare, self.settings.normalize)

    @cached_property
    def packed(self) -> Packed:
        return self.logs.packed()

    def values(self, overrides: Mapping[str, str]) -> dict[str, Any]:
        """params.yaml with the case's seed added to its own, and the overrides."""
        seeds = {f"{key}.seed": str(self.study.values[key]["seed"] + self.case.seed) for key in ("train", "dreams")}
        episodes = {"prepare.train_episodes": str(self.case.train_episodes)}
        return with_overrides(self.study.values, {**episodes, **seeds, **overrides})

    def ours(self, overrides: Mapping[str, str]) -> Path:
        """Folder with the bundle, and what it took."""
        values = self.values(overrides)
        folder = self._ours(values)
        if not (folder / DONE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            given = folder / "params.yaml"
            given.write_text(yaml.safe_dump(values), encoding="utf-8")
            asked = {"--logs": self.log.parent, "--out": folder / "run", "--params": given}
            begin = time.process_time()
            with (folder / "log.txt").open("w", encoding="utf-8") as log, redirect_stdout(log):
                train.command.main([str(word) for pair in asked.items() for word in pair], standalone_mode=False)
            seconds = time.process_time() - begin
            for name in KEPT:
                (folder / "run" / name).rename(folder / name)
            shutil.rmtree(folder / "run")
            say(folder, seconds=seconds)
        return folder

    def seconds(self) -> float:
        """Those of every other row that learns."""
        given = self.known_seconds()
        return float(told(self.ours({}))["seconds"]) if given is None else given

    def known_seconds(self) -> float | None:
        """None as long as ours has not been trained."""
        if self.study.seconds is not None:
            return self.study.seconds
        folder = self._ours(self.values({}))
        return float(told(folder)["seconds"]) if (folder / DONE).exists() else None

    def model(self) -> WorldModel:
        """Ours, of the params as they stand."""
        return WorldModel.load(find_bundle(self.ours({}) / "worldmodel"))

    def peer(self, name: str) -> tuple[PeerDynamics, dict[str, Any]]:
        """With what its training took."""
        settings, packed, seconds, seed = self.settings.train, self.packed, self.seconds(), self.case.seed
        kind: type[Peer] = getattr(import_module(f"research.peers.{name}"), PEERS[name])
        code = "research/peers/training.py", f"research/peers/{name}.py"
        folder = self._folder(name, {"values": self.values({}), "seconds": seconds}, *code)
        peer = new_peer(kind, packed, packed.where("train"), seed, settings.history, settings.horizon)
        if not (folder / DONE).exists():
            trained = train_peer(kind, packed, settings, seconds, seed)
            assert trained.peer is not None
            keep(folder, trained.peer)
            say(folder, seconds=trained.seconds, updates=trained.updates, selected=trained.selected)
        peer.load_state_dict(load_file(folder / WEIGHTS))
        peer.rollouts = 1  # a plan, as those plan who planned in such models: several take a peer seconds an action
        ends = packed.ends(packed.where("train"))
        ours = self.model()
        dynamics = PeerDynamics(peer.eval(), self.judge(), self.logs.scaler, ours.discrete, ours.action_range, ends)
        return dynamics, told(folder)

    def judge(self) -> Judge:
        """Of all peers."""
        folder = self._folder("judge", self.values({}), "research/control/dynamics.py")
        judge = new_judge(self.packed, self.case.seed)
        if not (folder / DONE).exists():
            begin = time.process_time()
            keep(folder, fit_judge(self.packed, self.case.seed))
            say(folder, seconds=time.process_time() - begin)
        judge.load_state_dict(load_file(folder / WEIGHTS))
        return judge.eval()

    def _ours(self, values: Mapping[str, Any]) -> Path:
        return self._folder("ours", values, *TRAIN)

    def _folder(self, name: str, decided_by: Mapping[str, Any], *code: str) -> Path:
        decided = {"by": decided_by, "logs": logs_digest(self.case), "code": code_of(*code), "versions": versions()}
        return self.case.folder(self.study.root) / f"{name}-{fingerprint(decided)[:12]}"


@cache
def logs_digest(case: Case) -> str:
    return fingerprint({"asked": asdict(case.recording), "code": code_of(COLLECT), "versions": versions()})


def say(folder: Path, **found: float) -> None:
    """Marks the folder as whole."""
    with replacing(folder / DONE) as temporary:
        temporary.write_text(json.dumps(found) + "\n", encoding="utf-8")


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / DONE).read_text(encoding="utf-8"))
    return found


def keep(folder: Path, module: nn.Module) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, folder / WEIGHTS)


@cache
def code_of(*entries: str) -> dict[str, str]:
    """sha256 of every file of the project that these are made of, by its path."""
    files = {path for entry in entries for path in import_closure(ROOT / entry, [ROOT / "src", ROOT])}
    return {path.relative_to(ROOT).as_posix(): sha256(path) for path in sorted(files)}


@cache
def versions() -> dict[str, str]:
    return installed(LIBRARIES)
