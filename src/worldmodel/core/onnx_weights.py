"""What an ONNX file holds, by the numbers of onnx.proto's fields: the client has protobuf, and no onnx."""

from typing import Any

import numpy as np
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

GRAPH, INITIALIZER = 7, 5
TYPE, FLOATS, NAME, RAW = 2, 4, 8, 9  # of an initializer
FLOAT32 = 1


def not_finite(model: bytes) -> str | None:
    """The name of the first weight that holds NaN or infinity. Raises ValueError where this is no ONNX file."""
    for tensor in (tensor for graph in _fields(model, GRAPH) for tensor in _fields(graph, INITIALIZER)):
        if _fields(tensor, TYPE) == [FLOAT32]:
            numbers = b"".join(_fields(tensor, RAW) + _fields(tensor, FLOATS))
            if not np.isfinite(np.frombuffer(numbers, "<f4")).all():
                return b"".join(_fields(tensor, NAME)).decode("utf-8", "replace")
    return None


def _fields(message: bytes, number: int) -> list[Any]:
    """What a field of a message holds, once or many times."""
    try:
        found: Any = UnknownFieldSet(Empty.FromString(message))
    except DecodeError as error:
        raise ValueError(str(error)) from None
    return [each.data for each in found if each.field_number == number]
