"""FieldMap: what to take from a source, where the source does not say so itself."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from worldmodel.core.checked import Text, checked
from worldmodel.core.regular import read_text
from worldmodel.core.yaml12 import cut, parse_dvc
from worldmodel.episodes.columns import Column

Rate = Annotated[float, Field(strict=True, gt=0, le=1e6)]


@dataclass(frozen=True)
class FieldMap:
    """Names as the source has them: columns, or fields of topics."""

    features: tuple[Text, ...] = ()
    action: tuple[Text, ...] | Text | None = None  # a list is a vector; one name stays what it holds, integers too
    context: tuple[Text, ...] = ()
    reward: Text | None = None
    terminal: Text | None = None
    truncated: Text | None = None
    timestamp: Text | None = None
    episode: Text | None = None
    agent_id: Text | None = None
    unit: Literal["s", "ms", "us", "ns"] = "s"  # of the timestamp
    rate: Rate | None = None  # frames a second
    columns: dict[Text, Column] = field(default_factory=dict)  # unit and kind of numbers, by name

    @property
    def actions(self) -> tuple[str, ...]:
        return (self.action,) if isinstance(self.action, str) else self.action or ()

    def require(self, keys: Iterable[str], form: str) -> None:
        """Raises ValueError for a key that means nothing to the format."""
        keys = {*keys, "columns"}
        for key in (item.name for item in fields(self)):
            if key not in keys and getattr(self, key) != getattr(FieldMap(), key):
                raise ValueError(f"{key}: means nothing to {form}, expected only {', '.join(sorted(keys))}")


def read_map(path: Path) -> FieldMap:
    """Raises ValueError that names the file and the key."""
    try:
        return checked(FieldMap, parse_dvc(read_text(path)) or {})  # y and n are names of columns here
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def unmapped(path: Path, holds: str, names: Iterable[str], example: str) -> ValueError:
    """The source holds more than one can know the meaning of."""
    listed = cut(", ".join(names), 2000)
    return ValueError(
        f"{path}: which {holds} are features and which actions is not known; it holds {listed}; "
        f"write a file such as\n\n{example}\n\nand give it by --map FILE.yaml"
    )
