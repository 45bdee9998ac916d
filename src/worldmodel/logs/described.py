"""features.yaml of a folder of logs: what features, actions and context are called, in which unit, of which kind."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from worldmodel.core.addresses import public
from worldmodel.core.checked import checked
from worldmodel.core.elsewhere import copied, file_system, reaching
from worldmodel.core.yaml12 import parse_dvc
from worldmodel.episodes.columns import NAMELESS, Column, Columns
from worldmodel.episodes.schema import ActionSpace
from worldmodel.logs.files import SUFFIXES, Location, LogFile, log_files, on_disk
from worldmodel.readers.source import PARTS, source_at

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


def columns_of(sources: Sequence[Location], files: Iterable[LogFile] | None = None) -> Columns:
    """What features.yaml says, and where it says nothing, what files of other formats call their columns.

    `files`: those of the sources, where they are known. Raises ValueError that names two which call them differently.
    """
    said, own = [read_columns(source) for source in sources], list[tuple[str, Columns]]()
    if not all(any(getattr(columns, part) for columns in said) for part in PARTS):
        found = chain.from_iterable(map(log_files, sources)) if files is None else files
        own = [(file.name, _own_columns(file)) for file in found if file.source and not file.read_error]
    described = [(f"{FILE} of {public(str(source))}", each) for source, each in zip(sources, said, strict=True)]
    return Columns(**{part: _agreed(part, described) or _agreed(part, own) for part in PARTS})


def _own_columns(file: LogFile) -> Columns:
    """Nothing where it cannot be read, which reading the logs tells."""
    try:
        with on_disk(file) as path:
            source = source_at(path)
            next(iter(source), None)
            return source.columns
    except ValueError:
        return NAMELESS


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
