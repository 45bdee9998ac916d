"""A section of params.yaml as command-line options, for the doors that work without DVC."""

import argparse
from dataclasses import fields, replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ValidationError

Section = TypeVar("Section")


def add_options(parser: argparse.ArgumentParser, section: type[Any], name: str) -> None:
    """One option a leaf; what is not given stays None."""
    for leaf, kind in get_type_hints(section).items():
        choices = get_args(kind) if get_origin(kind) is Literal else None
        parser.add_argument(_option(leaf), type=str if choices else kind, choices=choices, help=f"{name}.{leaf}")


def overridden(section: Section, given: argparse.Namespace) -> Section:
    """The section with what the command line says instead. Raises ValueError that names the option out of range."""
    leaves = [leaf.name for leaf in fields(section)]  # type: ignore[arg-type]
    changes = {leaf: getattr(given, leaf) for leaf in leaves if getattr(given, leaf) is not None}
    try:
        return replace(section, **changes)  # type: ignore[type-var]
    except ValidationError as error:
        mistakes = [f"{_option(item['loc'][0]) if item['loc'] else '--...'}: {item['msg']}" for item in error.errors()]
        raise ValueError("\n".join(mistakes)) from None


def _option(leaf: object) -> str:
    return f"--{leaf}".replace("_", "-")
