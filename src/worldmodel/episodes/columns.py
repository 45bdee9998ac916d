"""What a feature, an action or a context is called, in what unit, and of which kind."""

import math
from dataclasses import dataclass
from typing import Literal

from worldmodel.core.checked import CLOSED, Text

Kind = Literal["value", "angle", "category"]
TURN = {"degrees": 360.0, "radians": 2 * math.pi}


@dataclass(frozen=True)
class Column:
    """One number of a frame."""

    __pydantic_config__ = CLOSED

    name: Text = ""  # empty where nobody says
    unit: Text = ""  # of an angle: degrees | radians
    kind: Kind = "value"

    def __post_init__(self) -> None:
        if self.kind == "angle" and self.unit not in TURN:
            raise ValueError(f"unit: found {self.unit!r}, expected degrees or radians, as kind is angle")


@dataclass(frozen=True)
class Columns:
    """Of a data set; each empty where nothing is said of it."""

    __pydantic_config__ = CLOSED

    features: tuple[Column, ...] = ()
    actions: tuple[Column, ...] = ()
    context: tuple[Column, ...] = ()


NAMELESS = Columns()
