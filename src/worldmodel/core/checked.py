"""What was read from a file as a type: no key unknown, none missing, none of another type."""

import reprlib
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

F32 = 3.4028234663852886e38  # largest float32

CLOSED = ConfigDict(extra="forbid")
Float = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-F32, le=F32)]
Text = Annotated[str, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True, ge=0, le=2**53)]
Sha256 = Annotated[str, Field(strict=True, pattern="^[0-9a-f]{64}$")]

Kind = TypeVar("Kind")

WORDS = {"missing": "missing", "missing_argument": "missing", "extra_forbidden": "unknown key"}
WORDS |= {"unexpected_keyword_argument": "unknown key"}


def checked(kind: type[Kind], values: Any) -> Kind:
    """Raises ValueError that names the first key that is not as `kind` says."""
    try:
        found: Kind = _adapter(kind).validate_python(values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ValueError(_told(error)) from None
    return found


def _told(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    key = ".".join(map(str, first["loc"]))
    wrong = f"{first['msg'].replace('Input should be', 'expected')}, found {reprlib.repr(first['input'])[:80]}"
    return f"{key}: {WORDS.get(first['type'], wrong)}".removeprefix(": ")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
