"""Numbers as a reader wants them: the filters of the templates."""

MINUS = "\N{MINUS SIGN}"


def number(value: float, digits: int = 3) -> str:
    """With so many significant digits; all of them before the point, and in scientific notation where it is tiny."""
    if abs(value) >= 10**digits:
        text = f"{value:,.0f}"
    else:
        text = f"{value:#.{digits}g}" if abs(value) >= 1e-4 else f"{value:.{digits}g}"
    return text.rstrip(".").replace("-", MINUS)


def count(value: int, noun: str = "") -> str:
    """With its noun, which gets an s unless there is one of it."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}" if noun else f"{value:,}"


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}\N{NARROW NO-BREAK SPACE}%".replace("-", MINUS)


def less(change: float) -> str:
    """A relative change in words: -0.25 is "25.0 % less"."""
    return f"{percent(abs(change))} {'less' if change <= 0 else 'more'}"


def interval(low: float, high: float) -> str:
    return f"{number(low)} to {number(high)}"


def change_interval(low: float, high: float) -> str:
    """Of a relative change; the smaller number first where both ends mean better, or both worse."""
    if (low <= 0) != (high <= 0):
        return f"{less(low)} to {less(high)}"
    small, large = sorted((abs(low), abs(high)))
    return f"{100 * small:.1f} to {percent(large)}"


FILTERS = (number, count, percent, less, change_interval)
