"""The rows of the table: who drives, what is decisive for what they earn, and what they earned."""

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from examples.collect_gymnasium import Env, make
from research.control.cases import Case
from research.control.offline import METHODS, learnt
from research.control.play import Played, Policy, Reactive, hold, logged, play, random
from research.control.training import COLLECT, TRAIN, Study, Trainer, code_of, logs_digest, told, versions
from research.peers.training import PEERS
from worldmodel.client import WorldModel
from worldmodel.control import floors
from worldmodel.control.oracle import Oracle
from worldmodel.control.simulator import space_of, width
from worldmodel.core.atomic import replacing
from worldmodel.core.fingerprint import fingerprint
from worldmodel.core.tables import rounded
from worldmodel.planner import Planner

OURS, CLONED, LOGS, ORACLE, RANDOM, HOLD = "ours", "bc", "logs", "oracle", "random", "hold"
POLICY, PLANS = "policy alone", "plans alone"  # of ours: without plans, without a value
MINE = (OURS, POLICY, PLANS)
LOGLESS = (ORACLE, RANDOM, HOLD)  # the same whatever was logged
NAMES = (*MINE, *PEERS, *METHODS, LOGS, HOLD, RANDOM, ORACLE)
PLAYS, PLANNER = "research/control/play.py", "src/worldmodel/planner.py"
Result = dict[str, Any]


@dataclass(frozen=True)
class Row:
    model: str  # of NAMES
    overrides: Mapping[str, str] = field(default_factory=dict)  # of params, for ours
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or self.model

    @property
    def code(self) -> tuple[str, ...]:
        """Files that decide, with all that they import, what the row earns."""
        if self.model in PEERS:
            return PLAYS, PLANNER, *TRAIN, "research/control/dynamics.py", f"research/peers/{self.model}.py"
        own = dict.fromkeys(MINE, (PLANNER, *TRAIN)) | {
            ORACLE: (PLANNER, "src/worldmodel/control/oracle.py"),
            LOGS: (COLLECT,),
        }
        return PLAYS, *own.get(self.model, ("research/control/offline.py",) if self.model in METHODS else ())


@dataclass(frozen=True)
class Contest:
    """Measures the rows of one case, once each: a file for each result, named after all that decides it."""

    study: Study
    case: Case

    @cached_property
    def trainer(self) -> Trainer:
        return Trainer(self.study, self.case)

    def get(self, row: Row) -> Result | None:
        path = self._path(row)
        if path is None or not path.is_file():
            return None
        found: Result = json.loads(path.read_text(encoding="utf-8"))
        return found

    def measure(self, row: Row) -> Result | None:
        """None where there is no such row for these actions. Raises ValueError where it cannot be measured."""
        with closing(make(self.case.recording)) as env:
            if row.model in METHODS and not METHODS[row.model][isinstance(env.action_space, Discrete)]:
                return None
            policy, spent = self._policy(row, env)
            played = play(env, policy, self.case.starts(self.study.starts), self.case.length)
        path, result = self._path(row), self._result(row, played, spent)
        assert path is not None
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        return result

    def _policy(self, row: Row, env: Env) -> tuple[Policy, Mapping[str, Any]]:
        """With what its training took."""
        case, trainer = self.case, self.trainer
        if row.model in MINE:
            folder = trainer.ours(row.overrides)
            model = WorldModel.load(folder / "worldmodel")
            return mine(row.model, model, case.seed), told(folder)
        if row.model in PEERS:
            dynamics, spent = trainer.peer(row.model)
            return planner(dynamics, case.seed), spent
        if row.model in METHODS:
            return learnt(row.model, trainer.logs, trainer.seconds(), case.seed)
        if row.model == LOGS:
            agent = best_agent(trainer)
            return logged(env, case.recording, agent), {"agent": agent}
        if row.model == ORACLE:
            return oracle(env, trainer.settings.train.horizon, case.seed), {}
        return hold(env) if row.model == HOLD else random(env, case.seed), {}

    def _result(self, row: Row, played: Played, spent: Mapping[str, Any]) -> Result:
        decide_ms = 1000 * played.seconds / played.frames
        known = {"row": row.name, "env": self.case.env, "logs": self.case.name, "seed": self.case.seed}
        found = {"steps": self.case.length, "frames": played.frames, "decide_ms": decide_ms, "training": dict(spent)}
        result: Result = known | rounded(found) | {"returns": [float(f"{each:.8g}") for each in played.returns]}
        return result

    def _path(self, row: Row) -> Path | None:
        """None for a row whose seconds are not known yet."""
        decided: dict[str, Any] = {
            "case": [self.case.env, self.case.length, self.case.starts(self.study.starts)],
            "code": code_of(*row.code),
            "versions": versions(),
        }
        folder = self.case.folder(self.study.root)
        if row.model in LOGLESS:
            folder = self.study.root / folder.relative_to(self.study.root).parts[0] / f"seed-{self.case.seed}"
        else:
            decided |= {"logs": logs_digest(self.case), "params": self.trainer.values(row.overrides)}
        if row.model in PEERS or row.model in METHODS:
            decided["seconds"] = self.trainer.known_seconds()
            if decided["seconds"] is None:
                return None
        return folder / f"{row.name.replace(' ', '-')}-{fingerprint(decided)[:12]}.json"


def best_agent(trainer: Trainer) -> str:
    """Whose logged episodes earn the most on average."""
    earned = dict[str, list[float]]()
    for episode in trainer.logs.episodes:
        assert episode.rewards is not None
        earned.setdefault(episode.agent_id, []).append(float(episode.rewards.sum()))
    return max(earned, key=lambda agent: float(np.mean(earned[agent])))


def mine(name: str, model: WorldModel, seed: int) -> Policy:
    if name == POLICY:
        return Reactive(lambda episode: floors.Reactive(model, model.prior).act)
    return Planner(model, seed=seed, value=name == OURS)


def planner(model: Any, seed: int) -> Planner:
    """The same for all that can be planned in."""
    return Planner(model, seed=seed)


def oracle(env: Env, horizon: int, seed: int) -> Planner:
    """In the simulator itself, over all that can be done."""
    space, shape = space_of(env), env.observation_space.shape
    assert shape is not None
    bounds = (space.low.astype(np.float64), space.high.astype(np.float64)) if isinstance(space, Box) else None
    return planner(Oracle(env, horizon, shape[0], width(space), bounds is None, bounds), seed)
