"""What both front ends ask: requests in, answers out, whichever bundle is in place."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from worldmodel.client import MANIFEST, WorldModel, find_bundle
from worldmodel.serve.batching import Batcher, Call
from worldmodel.serve.models import Arrays, Model, models_of
from worldmodel.serve.sessions import Sessions, planner_specs
from worldmodel.serve.telemetry import Metrics, say
from worldmodel.serve.tensors import Array, Refused

PLANNER, PLATFORM = "planner", "onnxruntime"
NAME, VERSION, EXTENSIONS = "worldmodel", "2", ["binary_tensor_data"]  # what servers tell of themselves
CURRENT = "current"  # a link to one of several bundles


@dataclass(frozen=True)
class Limits:
    body: int  # bytes of a request
    connections: int  # at once, and requests of gRPC
    seconds: float  # for a request, from its first byte to the last one of its answer
    frames: int  # of all rows of a request
    sessions: int
    session_idle_s: float


@dataclass(frozen=True)
class Request:
    model: str
    version: str  # a run_id; empty: any
    inputs: Mapping[str, Array]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[str] = ()  # their names; none: all


@dataclass(frozen=True, eq=False)
class Bundle:
    model: WorldModel
    models: Mapping[str, Model]


class Engine:
    def __init__(self, path: Path, limits: Limits, threads: int, budget_ms: float | None) -> None:
        """Raises ValueError where there is no bundle that can be opened."""
        self.path, self.limits, self.metrics, self.ready = path, limits, Metrics(), False
        self.batcher = Batcher(threads, self.metrics.rows.observe)
        self.sessions = Sessions(limits.sessions, limits.session_idle_s, threads, budget_ms)
        self.metrics.sessions.set_function(lambda: len(self.sessions))
        self._seen = self._signature()
        self._swapping = asyncio.Lock()
        self._put(self._opened())

    @property
    def run_id(self) -> str:
        return self.bundle.model.run_id

    def model(self, name: str, version: str = "") -> Model:
        """Raises Refused where it is not served."""
        bundle = self.bundle
        if name not in bundle.models:
            raise Refused(f"no model {name[:40]!r} is served, only {', '.join(bundle.models)}", 404)
        if version and version != bundle.model.run_id:
            raise Refused(f"version {version[:40]!r} is not served, expected {bundle.model.run_id}", 404)
        return bundle.models[name]

    async def infer(self, request: Request) -> tuple[Arrays, str]:
        """The outputs that were asked for, and the run_id of the bundle that made them.

        Raises Refused, or ValueError, for what cannot be answered.
        """
        bundle, model = self.bundle, self.model(request.model, request.version)
        run_id = bundle.model.run_id
        asked = request.parameters.get("run_id") or run_id
        if asked != run_id and model.run:  # a planner takes no z
            raise Refused(f"z is of bundle {str(asked)[:40]!r}, and {run_id} is served now: encode again", 409)
        known = [spec.name for spec in model.outputs]
        if wrong := [str(name)[:40] for name in request.outputs if name not in known]:
            raise Refused(f"{request.model} has no output {wrong[0]!r}, only {', '.join(known)}")
        rows, frames = model.sizes(request.inputs, self.limits.frames)
        if model.run is None:
            if rows != 1:
                raise Refused(f"{rows} observations, expected 1; each agent has a session of its own")
            # A decision that began ends: nobody else may ask its planner before.
            acting = self.sessions.act(bundle.model, request.inputs, request.parameters)
            answer, run_id = await asyncio.shield(asyncio.ensure_future(acting))
        else:
            answer = await self.batcher.call(bundle, Call(request.model, model.run, request.inputs, rows, frames))
        return ({name: answer[name] for name in request.outputs or known}, run_id)

    def count(self, protocol: str, model: str, status: object, begun: float) -> None:
        """A request that ended; `model` as the client named it."""
        name = model if model in self.bundle.models else "none"
        requests, seconds = self.metrics.of(protocol, name, str(status))
        requests.inc()
        seconds.observe(perf_counter() - begun)

    async def watch(self, interval_s: float) -> None:
        """Swap when another bundle is in place; end sessions that nobody uses."""
        while True:
            await asyncio.sleep(interval_s)
            self.sessions.end_idle()
            signature = await asyncio.to_thread(self._signature)
            if signature != self._seen:
                self._seen = signature
                await self.swap()

    async def swap(self) -> None:
        """Open what is in place now; requests meanwhile have the bundle that they began with. If it cannot be opened,
        the one before goes on.
        """
        async with self._swapping:
            try:
                bundle = await asyncio.to_thread(self._opened)
            except (OSError, ValueError) as error:
                self.metrics.swaps.labels("failed").inc()
                say("swap failed", logging.ERROR, reason=str(error), serving=self.run_id)
                return
            self.metrics.swaps.labels("done").inc()
            say("swapped", before=self.run_id, run_id=bundle.model.run_id)
            self._put(bundle)

    def close(self) -> None:
        self.batcher.close()
        self.sessions.pool.shutdown(wait=False, cancel_futures=True)

    def _put(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.metrics.bundle.info({"run_id": bundle.model.run_id, "models": " ".join(bundle.models)})

    def _folder(self) -> Path:
        return self.path / CURRENT if (self.path / CURRENT).exists() else find_bundle(self.path)

    def _opened(self) -> Bundle:
        model = WorldModel.load(self._folder())
        models = models_of(model)
        try:
            specs = planner_specs(model)
        except ValueError as error:
            say("no planner", reason=str(error))
        else:
            models[PLANNER] = Model(*specs, None)
        return Bundle(model, models)

    def _signature(self) -> object:
        """Of what is in place: which folder, and when its files were written."""
        try:
            folder = self._folder().resolve()
            files = sorted(path for path in folder.iterdir() if path.suffix == ".onnx" or path.name == MANIFEST)
            return folder, [
                (path.name, (state := path.stat()).st_mtime_ns, state.st_size, state.st_ino) for path in files
            ]
        except (OSError, ValueError) as error:
            return str(error)
