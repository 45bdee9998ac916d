"""The bytes of a checkpoint: a safetensors file, never a pickle, whose header says which work it belongs to.

A file's name holds its step and the hash of its content: 000000001500-8f434346648f6b96.safetensors.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from worldmodel.core.fingerprint import fingerprint

FORMAT = "2"
ABOUT = "worldmodel"  # the one key of the header's metadata: safetensors writes several in any order
NAME = re.compile(r"\d{12}-[0-9a-f]{16}\.safetensors")
MOST = 1 << 24  # bytes of a header
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError)


class State(NamedTuple):
    """All that a loop needs to go on as if it had never stopped."""

    numbers: dict[str, Any]  # whatever JSON can hold
    tensors: dict[str, Tensor]


def content_of(state: State, work: str) -> bytes:
    numbers = json.dumps(state.numbers)
    about = {"format": FORMAT, "work": work, "seal": _seal(numbers, work, state.tensors), "numbers": numbers}
    return safetensors.torch.save(state.tensors, {ABOUT: json.dumps(about)})


def name_of(step: int, content: bytes) -> str:
    return f"{step:012d}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"


def step_of(name: str) -> int:
    return int(name.split("-")[0])


def is_whole(name: str, content: bytes) -> bool:
    return bool(NAME.fullmatch(name)) and name == name_of(step_of(name), content)


def state_of(content: bytes, work: str) -> State:
    """Raises ValueError where it is no checkpoint of this work, as `content_of` makes them.

    Tensors of their own: those that safetensors returns lie in `content`, at any address.
    """
    try:
        about = _about(lambda begin, end: content[begin:end])
        tensors = {name: tensor.clone() for name, tensor in safetensors.torch.load(content).items()}
        belongs = about["seal"] == _seal(about["numbers"], work, tensors)
        numbers = json.loads(about["numbers"]) if belongs else None
    except DAMAGE:
        raise ValueError("no checkpoint") from None
    if numbers is None:
        raise ValueError("a checkpoint of other work")
    return State(numbers, tensors)


def is_torn(content: bytes, work: str) -> bool:
    """Whether what is not whole is the rest of a checkpoint of this work."""
    return not content or work.encode() in content[:MOST]


def says_work(read: Callable[[int, int], bytes]) -> str | None:
    """The work that a file says it belongs to, of which `read(begin, end)` reads a part; None where it says none."""
    try:
        return str(_about(read)["work"])
    except DAMAGE:
        return None


def _about(read: Callable[[int, int], bytes]) -> dict[str, str]:
    size = int.from_bytes(read(0, 8), "little")
    if not 0 < size < MOST:
        raise ValueError(f"a header of {size} bytes")
    found: dict[str, str] = json.loads(json.loads(read(8, 8 + size))["__metadata__"][ABOUT])
    return found


def _seal(numbers: str, work: str, tensors: dict[str, Tensor]) -> str:
    """Holds together what belongs together: the hash in a name is anybody's to make."""
    sizes = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in tensors.items()}
    return fingerprint({"format": FORMAT, "work": work, "numbers": numbers, "sizes": sizes})
