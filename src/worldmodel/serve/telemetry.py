"""Logs as JSON lines on stderr, and metrics for Prometheus."""

import json
import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from logging.handlers import QueueHandler, QueueListener
from queue import Queue
from threading import Thread
from typing import Any

import onnxruntime
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics

from worldmodel.core.text import escaped

LOG = logging.getLogger("worldmodel.serve")
WAITING_LINES = 10_000  # more are dropped: nobody reads them, and requests do not wait for it
LAST_WORDS_S = 2.0  # for what is still waiting at the end
SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64, 256, 1024)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {"time": round(record.created, 3), "level": record.levelname.lower(), "event": record.getMessage()}
        said |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1]:
            said["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(said, default=str)


class _Stderr(logging.Handler):
    """Of one thread. Without a lock, and past Python's buffer, which has one: an end would wait for who reads."""

    def createLock(self) -> None:
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            os.write(2, f"{self.format(record)}\n".encode())


class _Dropping(QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def handleError(self, record: logging.LogRecord) -> None:
        """The queue is full."""


@contextmanager
def logging_lines() -> Iterator[None]:
    """Of this process, for a while. Whoever logs never waits for who reads."""
    onnxruntime.set_default_logger_severity(4)  # its lines are no JSON, and what it raises is logged
    lines: Queue[Any] = Queue(WAITING_LINES)
    handler = _Stderr()
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.INFO, handlers=[_Dropping(lines)], force=True)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    listener = QueueListener(lines, handler)
    listener.start()
    try:
        yield
    finally:
        ending = Thread(target=listener.stop, daemon=True)
        ending.start()
        ending.join(LAST_WORDS_S)


def say(event: str, level: int = logging.INFO, error: BaseException | None = None, **fields: object) -> None:
    shown = {name: escaped(value)[:2000] if isinstance(value, str) else value for name, value in fields.items()}
    LOG.log(level, event, exc_info=error, extra={"fields": shown})


class Metrics:
    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = found = CollectorRegistry()
        self.requests = Counter("worldmodel_requests", "Requests", ["protocol", "model", "status"], registry=found)
        self.seconds = Histogram(
            "worldmodel_request_seconds", "Time of a request", ["protocol", "model"], buckets=SECONDS, registry=found
        )
        self.of = cache(lambda *labels: (self.requests.labels(*labels), self.seconds.labels(*labels[:2])))
        self.rows = Histogram("worldmodel_batch_rows", "Rows that share a call", buckets=ROWS, registry=found)
        self.sessions = Gauge("worldmodel_sessions", "Open sessions of planners", registry=found)
        self.swaps = Counter("worldmodel_swaps", "Bundles that came later", ["outcome"], registry=found)
        self.bundle = Info("worldmodel_bundle", "The bundle that is served", registry=found)
