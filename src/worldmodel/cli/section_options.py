"""A section of params.yaml as command-line options, for the commands that work without DVC."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click
from pydantic import ValidationError

Section = TypeVar("Section")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def section_options(section: type[Any], name: str, without: str = "") -> Callable[[Any], Any]:
    """One option a leaf, but for one; what is not given stays None."""

    def decorate(command: Decorated) -> Decorated:
        for leaf, kind in reversed(get_type_hints(section).items()):
            if leaf == without:
                continue
            command = click.option(_option(leaf), leaf, type=_option_type(kind), help=f"{name}.{leaf}")(command)
        return command

    return decorate


def _option_type(kind: Any) -> Any:
    """Of a leaf: a choice of texts, or a number, which may be left out where the leaf may be null."""
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    return next(each for each in get_args(kind) or (kind,) if each is not NoneType)


def overridden(section: Section, given: Mapping[str, Any]) -> Section:
    """The section with what the command line says instead. Raises ValueError that names the option out of range."""
    leaves = [leaf.name for leaf in fields(section)]  # type: ignore[arg-type]
    changes = {leaf: given[leaf] for leaf in leaves if given.get(leaf) is not None}
    try:
        return replace(section, **changes)  # type: ignore[type-var]
    except ValidationError as error:
        mistakes = [f"{_option(item['loc'][0]) if item['loc'] else '--...'}: {item['msg']}" for item in error.errors()]
        raise ValueError("\n".join(mistakes)) from None


def _option(leaf: object) -> str:
    return f"--{leaf}".replace("_", "-")
