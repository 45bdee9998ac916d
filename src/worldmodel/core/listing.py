"""JSON files that describe many things: a head, and a list that is written and read item by item."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from worldmodel.core.atomic import replacing

BETWEEN = re.compile(r"[^\s,]")
BLOCK = 1 << 18  # characters read at once


def write_listing(path: Path, head: Mapping[str, Any], name: str, items: Iterable[Mapping[str, Any]], pad: int) -> None:
    """What json.dumps says of the head with the items under `name`, sorted and indented by pad; whole or not at all.

    Head and items have a key or more. The items are never in memory together, and their text is made many times as
    fast: json is slow where it indents.
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


def read_listing(path: Path, name: str) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """Head and items of what write_listing wrote, where no list stands behind; each item is made when its turn comes.

    Raises ValueError at once where the head is no JSON, and later where an item is none.
    """
    opening, before = f'"{name}": [', ""
    with path.open(encoding="utf-8") as stream:
        while (begin := before.find(opening)) < 0:
            if not (block := stream.read(BLOCK)):
                raise ValueError(f"found no list of {name}")
            before += block
    begin += len(opening)
    return json.loads(before[:begin] + _behind(path, name)), _items(path, begin)


def _behind(path: Path, name: str) -> str:
    """From the end of the list on."""
    whole, taken = path.stat().st_size, BLOCK
    with path.open("rb") as stream:
        while True:
            stream.seek(max(whole - taken, 0))
            last = stream.read()
            if b"]" in last:
                return last[last.rindex(b"]") :].decode("utf-8")
            if taken >= whole:
                raise ValueError(f"found no end of the list of {name}")
            taken *= 2


def _items(path: Path, begin: int) -> Iterator[dict[str, Any]]:
    """From character `begin` to the end of the list."""
    decode = json.JSONDecoder().raw_decode
    with path.open(encoding="utf-8") as stream:
        stream.read(begin)
        text, at = "", 0
        while (found := BETWEEN.search(text, at)) is None or found[0] != "]":
            try:
                item, at = decode(text, found.start() if found else len(text))
            except ValueError:  # it goes on in the next block, or nowhere
                if not (block := stream.read(BLOCK)):
                    raise
                text, at = text[at:] + block, 0
            else:
                yield item


def _item(item: Mapping[str, Any], pad: int) -> str:
    inner, outer = "\n" + " " * 3 * pad, "\n" + " " * 2 * pad
    if any(isinstance(value, dict | list | tuple) for value in item.values()):
        return json.dumps(item, sort_keys=True, indent=pad).replace("\n", outer)
    flat = json.dumps(item, sort_keys=True, separators=(f",{inner}", ": "))
    return f"{{{inner}{flat[1:-1]}{outer}}}"
