"""World models from the logs of an execution system.

WorldModel   a bundle: history of states -> z, z and planned actions -> states to come
Future       what it predicts
Planner      acts by it
Trajectory   what a simulator of yours gives back for a Start
Start        where a dream of it begins
"""

import os
from importlib import import_module
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime's: its thread keeps forked processes from ending
_HOMES = {
    "WorldModel": "client",
    "Future": "client",
    "Planner": "planner",
    "Trajectory": "trajectory",
    "Start": "trajectory",
}
__all__ = ["Future", "Planner", "Start", "Trajectory", "WorldModel"]


def __getattr__(name: str) -> Any:
    """Imported when it is first asked for: `worldmodel --help` needs none of them, and no stage all of them."""
    if name not in _HOMES:
        raise AttributeError(f"module worldmodel has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"worldmodel.{_HOMES[name]}"), name)
