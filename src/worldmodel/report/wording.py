"""Numbers as a reader wants them."""

from collections.abc import Sequence

MINUS = "\N{MINUS SIGN}"
TIGHT = "\N{NARROW NO-BREAK SPACE}"


def number(value: float, digits: int = 3) -> str:
    """With so many significant digits; all of them before the point, and in scientific notation where it is tiny."""
    if abs(value) >= 10**digits:
        text = f"{value:,.0f}"
    else:
        text = f"{value:#.{digits}g}" if abs(value) >= 1e-4 else f"{value:.{digits}g}"
    return text.rstrip(".").replace("-", MINUS)


def count(value: int) -> str:
    return f"{value:,}"


def counted(value: int, noun: str) -> str:
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}{TIGHT}%".replace("-", MINUS)


def interval(low: float, high: float) -> str:
    return f"{number(low)} to {number(high)}"


def less(change: float) -> str:
    """A relative change in words: -0.25 is "25.0 % less"."""
    return f"{percent(abs(change))} {'less' if change <= 0 else 'more'}"


def listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
