"""What a result depends on, as hashes: source files and inputs."""

import ast
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path
from typing import Any

import worldmodel
from worldmodel.core.elsewhere import copied, file_system, name_within, reaching
from worldmodel.core.jobs import cores
from worldmodel.core.regular import open_regular, walk

SUFFIXES = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)  # of a module's file
MANY = 1000  # files of a folder


def fingerprint(parts: dict[str, Any]) -> str:
    """sha256 of the canonical JSON of what a result depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def all_sha256(paths: Sequence[Path]) -> Iterator[str]:
    """Of each file, in order; several at once, which takes no process of its own."""
    with ThreadPoolExecutor(cores()) as pool:
        yield from pool.map(sha256, paths)


def content_hashes(inputs: Mapping[str, Path | str]) -> dict[str, str]:
    """sha256 of each file, by the name of its input and its path in there; of what is not there, nothing.

    Raises ValueError that names what is neither a regular file nor a link to one, nor a folder.

    The files of a folder of more than MANY have one for all. What lies elsewhere, at an address, goes by the checksum
    that is kept there.
    """
    return {name: digest for given, place in inputs.items() for name, digest in _content(given, place)}


def _content(given: str, place: Path | str) -> Iterator[tuple[str, str]]:
    if isinstance(place, str):
        yield from _elsewhere(given, place)
        return
    if not place.is_dir():
        if os.path.lexists(place):
            yield given, sha256(place)
        return
    for folder, _, names in walk(place):
        inside = Path(given, folder.relative_to(place)).as_posix()
        digests = all_sha256([folder / name for name in names])
        hashes = ((f"{inside}/{name}", digest) for name, digest in zip(names, digests, strict=True))
        if len(names) <= MANY:
            yield from hashes
        else:
            whole = hashlib.sha256()
            for name, digest in hashes:
                whole.update(f"{name}\0{digest}\n".encode("utf-8", "surrogateescape"))
            yield f"{inside}/*", whole.hexdigest()


def _elsewhere(given: str, address: str) -> Iterator[tuple[str, str]]:
    """Raises ValueError where it cannot be listed."""
    with reaching(address):
        system, root = file_system(address)
        for path in system.find(root):
            yield f"{given}/{name_within(root, path)}", _checksum(system, path)


def _checksum(system: Any, path: str) -> str:
    """What the store says of the content, or else its hash: no address, which may change where the content does not."""
    tag = system.info(path).get("ETag")
    if tag:
        return str(tag).strip('"')
    copy = copied(system, path)
    try:
        return sha256(copy)
    finally:
        copy.unlink()


def stage_code(stage: str) -> dict[str, str]:
    """sha256 of each source file that a stage is made of, by its path below the folder that holds the package."""
    source = Path(worldmodel.__file__).parent
    closure = import_closure(source / "stages" / f"{stage}.py", [source.parent])
    return {path.relative_to(source.parent).as_posix(): sha256(path) for path in closure}


def import_closure(entry: Path, roots: Sequence[Path]) -> list[Path]:
    """`entry` and every file below `roots`, the folders that modules are looked for in, that its imports reach.

    Raises ValueError where one of them is no Python.
    """
    return _closure([entry], roots)


def module_closure(name: str, roots: Sequence[Path]) -> list[Path]:
    """The same of a module, beginning with the packages that it lies in; nothing where the first root has none."""
    begin, entry = list(_files(roots[:1], [name])), roots[0].joinpath(*name.split("."))
    there = any(entry in (path.with_suffix(""), path.parent) for path in begin)
    return _closure(begin, roots) if there else []


def _closure(begin: Iterable[Path], roots: Sequence[Path]) -> list[Path]:
    reached, waiting = set[Path](), list(begin)
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting.extend(_imported(path, roots) if path.suffix == ".py" else ())
    return sorted(reached)


def _imported(path: Path, roots: Sequence[Path]) -> Iterator[Path]:
    """Files of the modules that a file names: `from a import b` may mean a and a.b, `from . import b` its neighbour."""
    try:
        with open_regular(path) as file:
            tree = ast.parse(file.read(), str(path))
    except SyntaxError as error:
        raise ValueError(f"{path}:{error.lineno}: {error.msg}") from None
    except (RecursionError, MemoryError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as Python ({error or type(error).__name__})") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from _files(roots, [alias.name for alias in node.names])
        elif isinstance(node, ast.ImportFrom):
            below = [path.parents[node.level - 1]] if node.level else roots
            module = [node.module] if node.module else []
            yield from _files(below, [*module, *(".".join([*module, alias.name]) for alias in node.names)])


def _files(roots: Sequence[Path], names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        parts = name.split(".")
        for module in (root.joinpath(*parts[:depth]) for root in roots for depth in range(1, len(parts) + 1)):
            named = (module.with_name(f"{module.name}{suffix}") for suffix in SUFFIXES)
            yield from (path for path in (*named, module / "__init__.py") if path.is_file())
