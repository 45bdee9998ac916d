"""Planners that remember what their agents saw, one a session."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np

from worldmodel.bundle import ENCODER, PREDICTOR
from worldmodel.client import WorldModel
from worldmodel.planner import Planner
from worldmodel.serve.models import TYPES, Arrays
from worldmodel.serve.tensors import Array, Refused, Spec

MOST_CHARACTERS = 128  # of a session's id


@dataclass(eq=False)
class Session:
    model: WorldModel
    used: float
    planner: Planner | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # one decision after the other


class Sessions:
    """At most so many; those that nobody used for a while end."""

    def __init__(self, most: int, idle_s: float, threads: int, budget_ms: float | None) -> None:
        self.most, self.idle_s, self.budget_ms = most, idle_s, budget_ms
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="planner")
        self._open: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def end_idle(self) -> None:
        limit = monotonic() - self.idle_s
        for name, session in list(self._open.items()):
            if session.used < limit and not session.turn.locked():
                del self._open[name]

    async def act(
        self, model: WorldModel, given: Mapping[str, Array], parameters: Mapping[str, Any]
    ) -> tuple[Arrays, str]:
        """The action for an observation, and the run_id of the bundle that decided: that which the session began with.

        Raises Refused where there are too many sessions, and ValueError as the planner does.
        """
        name = _name(parameters)
        session = self._session(name, model, bool(parameters.get("sequence_start")))
        async with session.turn:
            session.used = monotonic()
            try:
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(self.pool, self._decide, session, given)
            finally:
                if parameters.get("sequence_end") and self._open.get(name) is session:
                    del self._open[name]
        return answer, session.model.run_id

    def _session(self, name: str, model: WorldModel, anew: bool) -> Session:
        found = self._open.get(name)
        if found and not anew:
            return found
        made = Session(model, monotonic())
        if name:
            self.end_idle()
            if not found and len(self._open) >= self.most:
                raise Refused(f"{self.most} sessions are open, which is the limit; end one by sequence_end", 429)
            self._open[name] = made
        return made

    def _decide(self, session: Session, given: Mapping[str, Array]) -> Arrays:
        planner = session.planner = session.planner or Planner(session.model, budget_ms=self.budget_ms)
        context = given.get("context")
        action = planner.act(given["observation"][0], None if context is None else context[0])
        return {"action": np.asarray(action, np.int64 if session.model.discrete else np.float32)[None]}


def planner_specs(model: WorldModel) -> tuple[tuple[Spec, ...], tuple[Spec, ...]]:
    """Inputs and outputs of the planner. Raises ValueError where it cannot run."""
    Planner(model)  # raises for what it lacks
    if "reward" not in model.graphs[PREDICTOR].outputs:
        raise ValueError("the bundle predicts no reward")
    inputs = [Spec("observation", TYPES[model.graphs[ENCODER].types["features"]], (1, model.feature_count))]
    if model.context_count:
        inputs.append(Spec("context", "FP32", (1, model.context_count)))
    action = Spec("action", "INT64", (1,)) if model.discrete else Spec("action", "FP32", (1, model.action_count))
    return tuple(inputs), (action,)


def _name(parameters: Mapping[str, Any]) -> str:
    """Of the session; empty: none."""
    found = parameters.get("session") or parameters.get("sequence_id") or ""
    if not isinstance(found, str | int) or len(str(found)) > MOST_CHARACTERS:
        raise Refused(f"session is {str(found)[:40]!r}, expected a number or at most {MOST_CHARACTERS} characters")
    return str(found)
