"""An ONNX graph in memory, which copies, pickles and forks."""

import ctypes
import os
import weakref
from collections.abc import Mapping
from typing import Any

import onnxruntime

from worldmodel.core.typing import Reals


class Graph:
    """Its bytes go along wherever it is copied or pickled to; its session is opened anew there, and after a fork."""

    def __init__(self, content: bytes, threads: int) -> None:
        self.content, self.threads = content, threads
        self._session: onnxruntime.InferenceSession | None = None
        _OPEN.add(self)
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        self.inputs: dict[str, list[Any]] = {each.name: each.shape for each in inputs}
        self.outputs: dict[str, list[Any]] = {each.name: each.shape for each in outputs}
        self.types: dict[str, str] = {each.name: each.type for each in (*inputs, *outputs)}
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map

    @property
    def session(self) -> onnxruntime.InferenceSession:
        if self._session is None:
            self._session = _opened(self.content, self.threads)
        return self._session

    def __reduce__(self) -> tuple[Any, ...]:
        return Graph, (self.content, self.threads)

    def run(self, inputs: Mapping[str, Reals]) -> dict[str, Any]:
        return dict(zip(self.outputs, self.session.run(None, inputs), strict=True))


_OPEN: weakref.WeakSet[Graph] = weakref.WeakSet()


def _leave_sessions() -> None:
    """To the process that forked this one: their threads are there, and whoever ends a session waits for its threads,
    or crashes. So nobody does.
    """
    for graph in _OPEN:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(graph._session))
        graph._session = None


os.register_at_fork(after_in_child=_leave_sessions)


def _opened(content: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    for kind in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{kind}.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
