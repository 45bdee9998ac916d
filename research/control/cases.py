"""A case: one environment, one kind of logs of it, one seed; and the starts that everything in it is measured from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from examples.collect_gymnasium import AGENTS, Recording

ENVIRONMENTS = ("Pendulum-v1", "CartPole-v1", "Reacher-v5", "HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
AGENTS_OF = {"mixed": (), "anything": ("anything",), "weak": ("weak",)}  # of a kind of logs; none: the eight
LOGS = ("mixed-64", "mixed-400", "anything-1000", "weak-64")
RECORDED, DECIMALS = 200, 4  # frames of a logged episode, at most
STEPS = 200  # of a measured episode, at most
LONG = {("HalfCheetah-v5", "anything"): 1000}  # instead, as published figures of uniform random logs have it
START = 7  # what a random stream is for, beside those of the recording


@dataclass(frozen=True)
class Case:
    env: str
    kind: str  # of AGENTS_OF
    episodes: int  # recorded
    seed: int  # of the logs, the trainings and the starts
    train_episodes: int = 0  # that are trained on; 0 = all of the split
    steps: int = 0  # of a measured episode, at most; 0: the usual

    @property
    def name(self) -> str:
        size = f"-{self.train_episodes}-train" if self.train_episodes else ""
        return f"{self.kind}-{self.episodes}{size}"

    @property
    def group(self) -> "Case":
        """What seeds are averaged over."""
        return Case(self.env, self.kind, self.episodes, 0, self.train_episodes, self.steps)

    @property
    def length(self) -> int:
        return self.steps or LONG.get((self.env, self.kind), STEPS)

    @property
    def recording(self) -> Recording:
        return Recording(self.env, self.episodes, RECORDED, self.seed, DECIMALS, {}, AGENTS_OF[self.kind])

    def folder(self, root: Path) -> Path:
        return root / self.env.replace("/", "-") / self.name / f"seed-{self.seed}"

    def starts(self, number: int) -> list[int]:
        """Seeds of the environment, the same for all logs, drawn apart from those that recordings begin with."""
        drawn: list[int] = np.random.default_rng([self.seed, START]).integers(2**31, size=number).tolist()
        return drawn


def case_of(env: str, logs: str, seed: int, **extra: Any) -> Case:
    """Raises ValueError where `logs` is no kind and a number."""
    kind, _, number = logs.rpartition("-")
    least = len(AGENTS_OF[kind] or AGENTS) if kind in AGENTS_OF else 0
    if not least or not number.isdecimal() or int(number) < least:
        raise ValueError(f"logs {logs!r}: expected {', '.join(AGENTS_OF)} and how many episodes, as in {LOGS[0]}")
    return Case(env, kind, int(number), seed, **extra)
