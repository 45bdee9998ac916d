"""JSON files that describe many things: a head, and a list that is written item by item."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from worldmodel.runtime.atomic import replacing


def write_listing(path: Path, head: Mapping[str, Any], name: str, items: Iterable[Mapping[str, Any]], pad: int) -> None:
    """What json.dumps says of the head with the items under `name`, indented by pad; whole or not at all.

    Head and items have a key or more. The items are never in memory together, and their text is made many times as
    fast: indenting, json is slow.
    """
    whole = json.dumps({**head, name: []}, sort_keys=True, indent=pad)
    before, after = whole.split(f'\n{" " * pad}"{name}": []')
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", buffering=1 << 20) as stream:
        stream.write(f'{before}\n{" " * pad}"{name}": [')
        comma = ""
        for item in items:
            stream.write(f"{comma}\n{' ' * 2 * pad}{_item(item, pad)}")
            comma = ","
        stream.write(f"\n{' ' * pad}]{after}\n")


def _item(item: Mapping[str, Any], pad: int) -> str:
    inner, outer = "\n" + " " * 3 * pad, "\n" + " " * 2 * pad
    lines = [f"{inner}{json.dumps(key)}: {_value(item[key], pad, inner)}" for key in sorted(item)]
    return f"{{{','.join(lines)}{outer}}}"


def _value(value: Any, pad: int, line: str) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True, indent=pad).replace("\n", line)
    return json.dumps(value)
