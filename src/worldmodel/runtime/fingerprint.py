"""What a result depends on, as hashes: source files and inputs."""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def fingerprint(parts: dict[str, Any]) -> str:
    """sha256 of the canonical JSON of what a result depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hashes(inputs: Mapping[str, Path]) -> dict[str, str]:
    """sha256 of each file, by the name of its input and its path in there; of what is not there, nothing."""
    files = {name: sorted(path.rglob("*")) if path.is_dir() else [path] for name, path in inputs.items()}
    return {
        (Path(name) / file.relative_to(inputs[name])).as_posix(): sha256(file)
        for name, found in files.items()
        for file in found
        if file.is_file()
    }


def source_hashes(entry: Path) -> dict[str, str]:
    """sha256 of each source file that `entry` is made of, by its path below the entry's folder."""
    return {path.relative_to(entry.parent).as_posix(): sha256(path) for path in import_closure(entry)}


def import_closure(entry: Path) -> list[Path]:
    """`entry` and every file beside or below it that its imports reach, sorted."""
    root, reached, waiting = entry.parent, set[Path](), [entry]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting.extend(_files(root, _imports(path)))
    return sorted(reached)


def _imports(path: Path) -> Iterator[str]:
    """Dotted names that may be modules: `from a import b` yields a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(root: Path, names: Iterable[str]) -> Iterator[Path]:
    for name in names:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            module = root.joinpath(*parts[:depth])
            yield from (path for path in (module.with_suffix(".py"), module / "__init__.py") if path.is_file())
