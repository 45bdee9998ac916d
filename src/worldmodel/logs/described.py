"""features.yaml of a folder of logs: what features, actions and context are called, in which unit, of which kind."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from worldmodel.core.addresses import public
from worldmodel.core.atomic import replacing
from worldmodel.core.checked import checked
from worldmodel.core.elsewhere import copied, file_system, reaching
from worldmodel.core.yaml12 import parse_dvc
from worldmodel.episodes.columns import NAMELESS, Column, Columns
from worldmodel.episodes.schema import ActionSpace
from worldmodel.logs.files import SUFFIXES, Location
from worldmodel.readers.source import PARTS

FILE = "features.yaml"


def read_columns(folder: Location) -> Columns:
    """Of the logs there, or of the one log; nothing where there is no such file. Raises ValueError."""
    path, name = _found(folder)
    if path is None:
        return NAMELESS
    try:
        body = parse_dvc(path.read_text(encoding="utf-8"))
        if not isinstance(body, dict):
            raise ValueError(f"holds {type(body).__name__}, expected {', '.join(PARTS)}, each a list")
        return checked(Columns, {key: _items(value) for key, value in body.items()})
    except ValueError as error:
        raise ValueError(f"{name}: {error}; an item is a name, or has name, unit and kind") from None


def _found(folder: Location) -> tuple[Path | None, str]:
    """The file, or a copy of it, and what to call it."""
    if isinstance(folder, Path):
        path = (folder if folder.is_dir() else folder.parent) / FILE
        return (path if path.is_file() else None), str(path)
    if "?" in folder:
        return None, ""  # signed, for one file alone
    with reaching(folder):
        system, root = file_system(folder)
        there = f"{root.rpartition('/')[0] if root.endswith(SUFFIXES) else root.rstrip('/')}/{FILE}"
        return (copied(system, there) if system.exists(there) else None), public(system.unstrip_protocol(there))


def _items(value: Any) -> Any:
    return [{"name": item} if isinstance(item, str) else item for item in value] if isinstance(value, list) else value


def columns_of(sources: Sequence[Location], own: Iterable[tuple[str, Columns]] = ()) -> Columns:
    """What features.yaml says, and where it says nothing, what files of other formats (`own`) call their columns.

    Raises ValueError that names two which call them differently.
    """
    said = [(f"{FILE} of {public(str(source))}", read_columns(source)) for source in sources]
    return Columns(**{part: _agreed(part, said) or _agreed(part, own) for part in PARTS})


def _agreed(part: str, described: Iterable[tuple[str, Columns]]) -> tuple[Column, ...]:
    first, found = "", tuple[Column, ...]()
    for place, columns in described:
        own: tuple[Column, ...] = getattr(columns, part)
        if own and not found:
            first, found = place, own
        if own and _names(own) != _names(found):
            raise ValueError(
                f"{first} and {place}: {part} are called {_names(found)} and {_names(own)}, expected the same names; "
                f"if they mean the same, name them in {FILE} of the logs' folder"
            )
    return found


def fitted(columns: Columns, features: int, action_space: ActionSpace, context: int) -> Columns:
    """One for each number of a frame; the one of an integer action becomes one for each choice.

    Raises ValueError where others are described than frames hold.
    """
    if action_space.kind == "discrete" and len(columns.actions) == 1:
        choices = [Column(f"{columns.actions[0].name} {choice}") for choice in range(action_space.size)]
        columns = replace(columns, actions=tuple(choices))
    for part, count in {"features": features, "actions": action_space.size, "context": context}.items():
        own: tuple[Column, ...] = getattr(columns, part)
        if own and len(own) != count:
            raise ValueError(f"{FILE}: {part}: found {len(own)} ({_names(own)}), expected {count} as frames hold")
    if action_space.kind == "discrete" and any(column.kind != "value" for column in columns.actions):
        raise ValueError(f"{FILE}: actions: found a kind, expected none where an action is an integer")
    return columns


def _names(columns: Iterable[Column]) -> str:
    return ", ".join(column.name for column in columns)


def write_columns(columns: Columns, folder: Path) -> str:
    """Write features.yaml where names are known; one that is there stays. Returns what to tell of it, if anything."""
    path, content = folder / FILE, as_yaml(columns).encode()
    if not content or (path.is_file() and path.read_bytes() == content):
        return ""
    if path.exists():
        return f"names     not written: {path} is there and stays as it is"
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return f"names     written to {path}"


def as_yaml(columns: Columns) -> str:
    """The text that read_columns reads back."""
    text = ""
    for part in PARTS:
        own: tuple[Column, ...] = getattr(columns, part)
        text += f"{part}:\n" + "".join(f"  - {_item_text(each)}\n" for each in own) if own else ""
    return text


def _item_text(column: Column) -> str:
    """As JSON, which is YAML whatever the name is."""
    told = {key: value for key, value in asdict(column).items() if value not in ("", "value")}
    return json.dumps(column.name if told.keys() == {"name"} else told, ensure_ascii=False)
