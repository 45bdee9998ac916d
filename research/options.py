"""Options of several studies."""

from collections.abc import Callable
from typing import Any

import click


def numbers(kind: type[int] | type[float]) -> Callable[[click.Context, click.Parameter, str], list[Any]]:
    """The callback of an option that takes numbers with commas between them."""

    def parse(context: click.Context, parameter: click.Parameter, text: str) -> list[Any]:
        try:
            return [kind(part) for part in text.split(",")]
        except ValueError:
            raise click.BadParameter(f"found {text!r}, expected numbers with commas between them") from None

    return parse
