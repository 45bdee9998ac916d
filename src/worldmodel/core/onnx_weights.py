"""Is an ONNX file safe to open? Read by the numbers of onnx.proto's fields: the client has no onnx."""

import math
from collections.abc import Iterator

import numpy as np

# kind of message -> the fields of it that hold messages to look into, and their kinds
WITHIN = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
}
OP, DOMAIN = 4, 7  # of a node
DIMS, TYPE, NAME, RAW, EXTERNAL, LOCATION = 1, 2, 8, 9, 13, 14  # of a tensor
NUMBERS = (4, 5, 7, 9, 10, 11)  # its fields that hold numbers, each in its own way
FLOATS = {1: "<f4", 11: "<f8"}  # by type
SIZES = {1: 4, 11: 8, 6: 4, 7: 8, 9: 1, 2: 1, 3: 1}  # bytes of a number of each type that bundles have
STANDARD = (b"", b"ai.onnx")

Fields = list[tuple[int, int | bytes]]


def flaw(model: bytes) -> str | None:
    """What speaks against opening a file: weights that are elsewhere, missing, NaN or infinite; operators of others.

    Raises ValueError where this is no ONNX file.
    """
    checks = {"node": _of_node, "tensor": _of_tensor, "sparse": _of_sparse}
    found = (checks[kind](fields) for kind, fields in _parts("model", model) if kind in checks)
    return next(filter(None, found), None)


def _parts(kind: str, message: int | bytes) -> Iterator[tuple[str, Fields]]:
    """The fields of a message and of all that it holds, to the bottom: bodies of loops lie in attributes."""
    if isinstance(message, int):
        raise ValueError(f"a {kind} is a number")
    fields, inside = list(_fields(message)), WITHIN.get(kind, {})
    yield kind, fields
    for number, value in fields:
        if number in inside:
            yield from _parts(inside[number], value)


def _of_sparse(_: Fields) -> str:
    return "it has sparse weights, expected dense ones"


def _of_node(fields: Fields) -> str:
    said = dict(fields)
    if said.get(DOMAIN, b"") in STANDARD:
        return ""
    return f"operator {_text(said.get(OP))} is of domain {_text(said[DOMAIN])}, expected ONNX's own"


def _of_tensor(fields: Fields) -> str:
    last = dict(fields)
    name, kind = _text(last.get(NAME)) or "a constant", last.get(TYPE)
    if EXTERNAL in last or last.get(LOCATION):
        return f"{name} lies in another file, expected every weight in this one"
    if not isinstance(kind, int) or kind not in SIZES:
        return f"{name} holds numbers of type {kind!r}, expected one of {sorted(SIZES)}"
    count = math.prod(each for number, value in fields if number == DIMS for each in _integers(value))
    held = [value for number, value in fields if number in NUMBERS]
    numbers = b"".join(value for value in held if isinstance(value, bytes))
    there = len(numbers) + sum(isinstance(value, int) for value in held)
    exact = kind in FLOATS or RAW in last  # else each takes one byte at least
    if count * SIZES[kind] != there if exact else count > there:
        return f"{name} is said to hold {count} numbers, and the file has {there} bytes of them"
    if kind in FLOATS and not np.isfinite(np.frombuffer(numbers, FLOATS[kind])).all():
        return f"{name} holds NaN or infinity"
    return ""


def _text(name: int | bytes | None) -> str:
    return name[:80].decode("utf-8", "replace") if isinstance(name, bytes) else ""


def _integers(value: int | bytes) -> Iterator[int]:
    """Of a repeated field, packed or not."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        yield number


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field, in the order of the file; numbers of fixed width as their bytes."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field of wire type {wire}")
        if size > end - at:
            raise ValueError(f"it ends {size - (end - at)} bytes early")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place after it."""
    number, shift = 0, 0
    for byte in message[at : at + 10]:
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    raise ValueError("it ends within a number")
