"""Files that lie elsewhere, at an address that fsspec reads."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from worldmodel.core.addresses import public, reason
from worldmodel.core.temporary import OUT_OF_SPACE

CONNECT, ANSWER = 20, 60  # seconds that a web server may take; a whole file may take as long as it takes
_numbers = count()


@contextmanager
def reaching(address: str) -> Iterator[None]:
    """Raises ValueError that says, in one line and without secrets, why what lies there cannot be had."""
    try:
        yield
    except Exception as error:  # each of fsspec's systems has some of its own
        raise ValueError(
            f"{public(address)}: cannot be listed or read ({reason(error, address)}); "
            "check the address, its keys and the rights to read it"
        ) from None


def file_system(address: str) -> tuple[Any, str]:
    """Of fsspec, with nothing that it remembers of an earlier look, and the address as a path in there."""
    import fsspec  # takes a moment to load

    if "http" in address:
        _limit_waiting()
    system, root = fsspec.url_to_fs(address)
    system.invalidate_cache()
    return system, root


def require_answer(system: Any, path: str) -> None:
    """Raises what the system raises, unless it says that nothing lies there."""
    try:
        system.info(path)
    except FileNotFoundError as error:
        if "http" in system.protocol and getattr(error.__cause__, "status", None) != 404:
            raise error.__cause__ or error from None


def name_within(root: str, path: str) -> str:
    """A file's path within the folder `root`, or its own name where `root` is the file; no query of a web address."""
    bare, top = (each.partition("?")[0] if each.startswith(("http://", "https://")) else each for each in (path, root))
    return bare.removeprefix(top).strip("/") or bare.rsplit("/", 1)[-1]


def copied(system: Any, path: str) -> Path:
    """A copy on this machine, until this process ends: not every web server says how long a file is, or sends parts."""
    copy = Path(_copies().name, str(next(_numbers)))
    try:
        system.get_file(path, str(copy))
    except OSError as error:
        if error.errno in OUT_OF_SPACE:
            raise OSError(f"{copy}: {error.strerror}; set TMPDIR to a folder that has room") from None
        raise
    return copy


@cache
def _copies() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="worldmodel-")


@cache
def _limit_waiting() -> None:
    """Unless fsspec's own configuration says otherwise."""
    import fsspec
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=CONNECT, sock_read=ANSWER)
    for scheme in ("http", "https"):
        fsspec.config.conf.setdefault(scheme, {}).setdefault("client_kwargs", {"timeout": timeout})
