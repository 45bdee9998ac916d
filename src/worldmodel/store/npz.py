"""NPZ files, byte for byte as numpy writes them, several times as fast; and read back within a limit.

numpy writes through Python's zipfile, which takes longer than everything else that prepare does with a short episode.
"""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

HEADERS = 4096  # bytes, more than the headers of an episode's arrays take
ZIP64 = 45  # version needed to extract
FIRST_DAY = 33  # 1980-01-01 in DOS format, in place of the date of writing
AROUND, LAST = 50 + 46, 22  # bytes of a member beside its content and, twice, its name; and of the archive's end
MAGIC = b"\x93NUMPY\x01\x00"
OWNER = 0o600 << 16  # permissions, as zipfile sets them
UNIX = 3


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes that np.savez writes."""
    body, directory, offset = list[bytes](), list[bytes](), 0
    for name, array in arrays.items():
        member = f"{name}.npy".encode("ascii")
        content = _header(array.dtype.str, array.shape) + np.ascontiguousarray(array).tobytes()
        check, size = zlib.crc32(content), len(content)
        common = struct.pack("<HHHHI", 0, 0, 0, FIRST_DAY, check)
        extra = struct.pack("<HHQQ", 1, 16, size, size)
        local = struct.pack("<4sH", b"PK\3\4", ZIP64) + common
        local += struct.pack("<IIHH", 2**32 - 1, 2**32 - 1, len(member), len(extra)) + member + extra
        entry = struct.pack("<4sBBH", b"PK\1\2", ZIP64, UNIX, ZIP64) + common
        entry += struct.pack("<IIHHHHHII", size, size, len(member), 0, 0, 0, 0, OWNER, offset) + member
        body += [local, content]
        directory.append(entry)
        offset += len(local) + size
    index = b"".join(directory)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, len(directory), len(directory), len(index), offset, 0)
    return b"".join([*body, index, end])


def npz_size(arrays: Mapping[str, tuple[str, tuple[int, ...]]]) -> int:
    """How many bytes npz_bytes makes of arrays of these types and shapes."""
    size = LAST
    for name, (kind, shape) in arrays.items():
        content = len(_header(kind, shape)) + np.dtype(kind).itemsize * math.prod(shape)
        size += AROUND + 2 * len(f"{name}.npy") + content
    return size


@lru_cache(maxsize=1024)
def _header(kind: str, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    described = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()


def read_npz(stream: BinaryIO, most: int) -> dict[str, NDArray[Any]]:
    """The arrays of an NPZ file, `most` bytes of them at most. Raises ValueError for any other file."""
    try:
        with zipfile.ZipFile(stream) as file:
            members = file.infolist()
            unpacked = sum(int(member.file_size) for member in members)
            if unpacked > most + HEADERS:
                raise ValueError(f"it unpacks to {unpacked} bytes, expected at most {most + HEADERS}")
            return {member.filename.removesuffix(".npy"): _array(file.read(member)) for member in members}
    except (EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ValueError(str(error)) from None


def _array(content: bytes) -> NDArray[Any]:
    """As np.load reads it; the text of a header is parsed once for all arrays that have the same."""
    if content[: len(MAGIC)] != MAGIC:
        raise ValueError("a member is no array as np.save writes it")
    begin = len(MAGIC) + 2 + int.from_bytes(content[len(MAGIC) : len(MAGIC) + 2], "little")
    shape, kind = _described(content[len(MAGIC) : begin])
    return np.frombuffer(content, kind, math.prod(shape), begin).reshape(shape).copy()


@lru_cache(maxsize=1024)
def _described(header: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    shape, fortran, kind = np.lib.format.read_array_header_1_0(io.BytesIO(header))
    if kind.hasobject or (fortran and len(shape) > 1):
        raise ValueError("an array holds objects, or its columns end to end; expected numbers, row by row")
    return shape, kind
