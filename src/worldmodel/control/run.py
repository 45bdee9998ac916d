"""The whole comparison: every row from the same starts, which the logs do not hold and which are not solved already."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete
from tqdm import tqdm

from worldmodel.client import PREDICTOR, WorldModel
from worldmodel.control import comparison
from worldmodel.control.cloning import clone
from worldmodel.control.episodes import CLONED, HOLD, ORACLE, PLANNER, POLICY, RANDOM, Case, Played, play
from worldmodel.control.logged import Logged
from worldmodel.control.simulator import Env, reset, space_of, start_seeds, width
from worldmodel.control.state import why_not
from worldmodel.core.jobs import run_all
from worldmodel.core.typing import Doubles

PATIENCE = 3  # starts that are looked at for each one that is played
APART = 0.01  # relative difference of two intervals between frames that are not the same

Rows = dict[str, dict[int, Played]]  # by row and seed of the start


@dataclass
class Run:
    """Of `episodes` from starts of their own; `notes` are what a reader has to know beside the figures."""

    case: Case
    episodes: int
    oracle: bool
    logged: Logged | None
    interval_s: float | None = None
    notes: list[str] = field(default_factory=list)
    rows: Rows = field(default_factory=dict)

    def play(self) -> list[int]:
        """Seeds of the starts, in their order; `rows` has what came of them."""
        with closing(self.case.made()) as env:
            self.interval_s = self._checked(env)
            candidates = self._apart_from_logs(env)
        if self.logged:
            self._say_left_out(self.logged)
        if self.logged and self.logged.train:
            self.case = replace(
                self.case, cloned=clone(self.case.model, self.logged.train, self.logged.val, self.case.seed)
            )
        some = {POLICY: self.case.model.has_policy, CLONED: self.case.cloned, ORACLE: self.oracle}
        rows = [PLANNER, RANDOM, HOLD, *(row for row, there in some.items() if there)]
        with tqdm(total=self.episodes * len(rows), desc=self.case.env, unit="episode", disable=None) as bar:
            seeds = self._unsolved(candidates, [row for row in rows if row in (RANDOM, HOLD, ORACLE)], bar)
            self._play([row for row in rows if row in (PLANNER, POLICY, CLONED)], seeds, bar)
        return seeds

    def _say_left_out(self, logged: Logged) -> None:
        compared = sum(map(len, logged.returns(self.case.steps).values()))
        if compared < len(logged.whole):
            self.notes.append(
                f"{len(logged.whole) - compared} of {len(logged.whole)} logged episodes are no comparison: they hold "
                f"fewer than {self.case.steps} frames, and not the end of the task, or no rewards"
            )

    def _checked(self, env: Env) -> float | None:
        """Seconds between frames. Raises ValueError where the bundle is not of such an environment."""
        require_fit(self.case.model, env, self.case.env, "cost" in self.case.planner)
        own, logged = getattr(env.unwrapped, "dt", None), self.case.model.interval_s
        if own and logged and abs(own / logged - 1) > APART:
            self.notes.append(
                f"a frame of {self.case.env} takes {own:g} s, and one of the bundle's logs {logged:g} s: unless their "
                "clock is another one, the model does not know this environment's pace"
            )
        reset(env, 0)
        if self.oracle and (why := why_not(env)):
            self.notes.append(f"no oracle: {self.case.env}: {why}")
            self.oracle = False
        return float(own or logged or 0) or None

    def _apart_from_logs(self, env: Env) -> list[int]:
        """Seeds of starts, PATIENCE for each episode; none that the logs hold, unless there are too few."""
        seeds: list[int] = start_seeds(self.case.seed, PATIENCE * self.episodes).tolist()
        if self.logged is None:
            return seeds
        known = self.logged.near(np.stack([reset(env, seed) for seed in seeds]))
        found = [seed for seed, logged in zip(seeds, known, strict=True) if not logged]
        if len(found) >= self.episodes:
            return found
        self.notes.append(
            f"only {len(found)} of {len(seeds)} starts are none of the logs' frames: others are played too"
        )
        return found + [seed for seed in seeds if seed not in found]

    def _unsolved(self, candidates: Sequence[int], rows: Sequence[str], bar: Any) -> list[int]:
        """The first ones from which doing nothing is not all but as good as the oracle."""
        found, solved, waiting = list[int](), list[int](), list(candidates)
        while len(found) < self.episodes and waiting:
            some, waiting = waiting[: self.episodes - len(found)], waiting[self.episodes - len(found) :]
            self._play(rows, some, bar)
            if ORACLE not in rows:
                return some
            hold, random, best = (self._returns(row, some) for row in (HOLD, RANDOM, ORACLE))
            easy = comparison.solved(hold, random, best)
            found += [seed for seed, each in zip(some, easy, strict=True) if not each]
            solved += [seed for seed, each in zip(some, easy, strict=True) if each]
        if solved:
            looked, which = len(solved) + len(found), "these are left out"
            if len(found) < self.episodes:
                which = "too many to leave all of them out"
            self.notes.append(
                f"from {len(solved)} of {looked} starts, doing nothing goes {comparison.SOLVED:.0%} of "
                f"the way from random to the oracle, or more: {which}"
            )
        return (found + solved)[: self.episodes]

    def _play(self, rows: Sequence[str], seeds: Sequence[int], bar: Any) -> None:
        calls = [(self.case, row, seed, row == PLANNER and seed == seeds[0]) for row in rows for seed in seeds]
        for (_, row, seed, _), played in zip(calls, run_all(play, calls), strict=True):
            self.rows.setdefault(row, {})[seed] = played
            bar.update()

    def _returns(self, row: str, seeds: Sequence[int]) -> Doubles:
        return np.array([self.rows[row][seed].returned for seed in seeds])


def require_fit(model: WorldModel, env: Env, name: str, cost: bool) -> None:
    """Raises ValueError where the bundle is not of such an environment, or tells nothing to plan for."""
    space, features = space_of(env), env.observation_space.shape or ()
    kinds = ("continuous", "discrete")
    found = model.feature_count, kinds[model.discrete], model.action_count
    expected = features[0], kinds[isinstance(space, Discrete)], width(space)
    for what, ours, theirs in zip(("features", "actions", "actions"), found, expected, strict=True):
        if ours != theirs:
            raise ValueError(
                f"bundle {model.run_id} has {ours} {what}, and {name} {theirs}: it was not trained on its logs"
            )
    if "reward" not in model.graphs[PREDICTOR].outputs and not cost:
        raise ValueError(f"bundle {model.run_id} predicts no reward, as its logs hold none; give --cost")
    if model.context_count:
        raise ValueError(
            f"bundle {model.run_id} takes {model.context_count} numbers of context, which {name} does not give"
        )
