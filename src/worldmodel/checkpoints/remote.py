"""Checkpoints copied to where other machines find them: s3://bucket/prefix, or another bucket that fsspec knows.

No lock spans machines. Two that compute the same make the same checkpoints: they waste time and spoil nothing.
"""

import os
import sys
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Any, TypeVar

import fsspec

from worldmodel.checkpoints.content import NAME, says_work
from worldmodel.core.addresses import public, reason

VARIABLE = "WORLDMODEL_CHECKPOINTS"  # of the environment: where a result is computed changes nothing in it
PATIENCE = 20.0  # seconds to wait for an answer; a machine about to be taken away has about 30
KEPT = 2  # checkpoints, here as there

T = TypeVar("T")


class RemoteCheckpoints:
    """The copies of one loop's checkpoints, in a folder of their own. What others have put there is left alone."""

    def __init__(self, address: str, work: str = "") -> None:
        self.address, self.work = address, work
        self.shown = public(address)
        self._works: dict[str, str | None] = {}  # by path: a name holds its content's hash
        self._sending: Future[None] | None = None
        self._failed = False

    def names(self) -> list[str]:
        """Raises ValueError where the place cannot be listed."""
        return self._answer("cannot be looked through", self._names)

    def read(self, name: str) -> bytes:
        """Nothing where another machine has removed it meanwhile. Raises ValueError where it cannot be had."""
        return self._answer(f"{name} cannot be read", partial(self._read, name), hurry=False)

    def send(self, name: str, content: bytes) -> None:
        """In the background, and only where the one before has arrived. A failure is told, and stops nothing."""
        if self._sending is None or self._sending.done():
            self._sending = _begun(partial(self._put, name, content))

    def send_now(self, name: str, content: bytes) -> None:
        """The last one: wait until it has arrived, or PATIENCE is over."""
        self._sending = _begun(partial(self._put, name, content))
        self.finish()

    def finish(self) -> None:
        """Wait for what is on its way, no longer than PATIENCE."""
        with suppress(TimeoutError):
            if self._sending is not None:
                self._sending.result(PATIENCE)

    def discard(self, name: str) -> None:
        """Torn as it is."""
        self._answer(f"{name} is torn and cannot be removed", partial(self._remove, [name]))

    def leave(self, name: str) -> None:
        """Somebody else's, whatever it says."""
        self._works[f"{self._place()[1]}/{name}"] = None

    def clear(self) -> None:
        """The work is done. Where copies are left behind that is told, and no reason to fail."""
        self.finish()
        try:
            self._answer("cannot be cleared", self._remove_all)
        except ValueError as error:
            print(
                f"warning: {error}; the result is whole, copies of its checkpoints may be left there", file=sys.stderr
            )

    def _answer(self, failure: str, work: Callable[[], T], hurry: bool = True) -> T:
        try:
            return _begun(work).result(PATIENCE if hurry else None)
        except Exception as error:  # each of fsspec's systems has some of its own
            raise ValueError(
                f"{self.shown}: {failure} ({_reason(error, self.address)}); "
                f"check address, keys and server, or unset {VARIABLE} to go on with this machine's checkpoints alone"
            ) from None

    def _place(self) -> tuple[Any, str]:
        system, root = fsspec.url_to_fs(self.address)
        return system, root.rstrip("/")

    def _names(self) -> list[str]:
        system, root = self._place()
        system.invalidate_cache()  # other machines write there too
        return sorted(name for path in system.find(root) if NAME.fullmatch(name := path.removeprefix(f"{root}/")))

    def _remove_all(self) -> None:
        """Those of the parts as well."""
        system, root = self._place()
        system.invalidate_cache()
        for path in system.find(root):
            folder, _, name = path.removeprefix(f"{root}/").rpartition("/")
            if NAME.fullmatch(name) and self._is_of(path, f"{self.work}/{folder}" if folder else self.work):
                with suppress(FileNotFoundError):
                    system.rm_file(path)

    def _is_of(self, path: str, work: str) -> bool:
        """Asked once for each name, of the first bytes."""
        system, _ = self._place()

        def part(begin: int, end: int) -> bytes:
            try:
                return bytes(system.cat_file(path, start=begin, end=end))
            except FileNotFoundError:
                return b""
            except Exception:  # of a server that sends a part with the checksum of the whole
                return bytes(system.cat_file(path))[begin:end]

        if path not in self._works:
            self._works[path] = says_work(part)
        return self._works[path] == work

    def _read(self, name: str) -> bytes:
        system, root = self._place()
        with suppress(FileNotFoundError):
            return bytes(system.cat_file(f"{root}/{name}"))
        return b""

    def _put(self, name: str, content: bytes) -> None:
        try:
            system, root = self._place()
            system.pipe_file(f"{root}/{name}", content)
            self._works[f"{root}/{name}"] = self.work
            self._remove([each for each in self._names() if self._is_of(f"{root}/{each}", self.work)][:-KEPT])
        except Exception as error:  # as above; the training must not be lost for it
            if not self._failed:
                print(
                    f"warning: {self.shown}: {name} could not be sent ({_reason(error, self.address)}); check "
                    "address, keys and server; this goes on with this machine's checkpoints, and sends each later one",
                    file=sys.stderr,
                )
            self._failed = True
        else:
            if self._failed:
                print(f"{self.shown}: sent again, from {name} on", file=sys.stderr)
            self._failed = False

    def _remove(self, names: list[str]) -> None:
        system, root = self._place()
        for name in names:
            with suppress(FileNotFoundError):
                system.rm_file(f"{root}/{name}")


def remote_of(stage: str, fingerprint: str) -> RemoteCheckpoints | None:
    """Where the environment says so. Raises ValueError where that is no address."""
    address = os.environ.get(VARIABLE)
    if address and "://" not in address:
        found = public(f"s3://{address}").removeprefix("s3://")
        raise ValueError(f"{VARIABLE}: found {found!r}, expected an address such as s3://bucket/prefix")
    return RemoteCheckpoints(f"{address.rstrip('/')}/{stage}/{fingerprint}", fingerprint) if address else None


def _begun(work: Callable[[], T]) -> Future[T]:
    """Start it in a thread that keeps no process alive."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def _reason(error: Exception, address: str) -> str:
    return f"no answer within {PATIENCE:g} s" if isinstance(error, TimeoutError) else reason(error, address)
