"""Connections over HTTP, with an end to what a client may keep waiting."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD = 65_536  # bytes before a request begins to be answered
GRACE_S = 1.0  # beyond the limit for a request: then its answer says what was wrong


class Connection(HttpToolsProtocol):
    """Breaks off where a request does not come, or its answer is not taken, within the time for a request."""

    seconds: float

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._head = 0
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        waiting = self.cycle is None or self.cycle.response_complete
        if waiting and not self._head:
            self._begin()
        self._head = self._head + len(data) if waiting else 0
        super().data_received(data)
        still = self.cycle is None or self.cycle.response_complete
        if waiting and still and self._head > MOST_HEAD and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_response_complete(self) -> None:
        self._end()
        self._head = 0
        super().on_response_complete()
        if not self.cycle.response_complete or self.transport.get_write_buffer_size():
            self._begin()

    def _begin(self) -> None:
        self._end()
        self._deadline = self.loop.call_later(self.seconds + GRACE_S, self._give_up)

    def _end(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self.transport.abort()
